"""Training of the reference models: labels, simulated anonymisation, the loop, evaluation. Not installed for users."""

"""Train and evaluate the reference models: labels, simulated anonymisation, training loops. Not part of the package."""

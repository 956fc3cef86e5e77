"""Time and work: when a series is complete, which series get the models, running them, sending what they found."""

"""Train both reference models from the data folder with one command: ``python -m training.reference``."""

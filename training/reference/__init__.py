"""Reference training: both models from the data folder by one command, ``python -m training.reference``."""

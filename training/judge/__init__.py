"""Training of the judge, the network at native voxels: ``python -m training.judge --data DATA --work WORK``."""

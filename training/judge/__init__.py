"""Train the judge, the network that sees single voxels: ``python -m training.judge train --data DATA --work WORK``."""

"""How fast patches come, and how long a step takes: ours, and nnssl, nnU-Net and AnatoMask on the same volumes."""

"""The judge: a second network that sees stored values of single voxels, with the output of the 3 mm networks."""

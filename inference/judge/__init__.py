"""The judge: a second network that sees stored values at native voxels, with the 3 mm networks' answers as context."""

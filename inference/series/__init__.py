"""Read files as checked volumes: find series, divide them into stacks, check geometry and voxels; also NIfTI."""

"""From files to checked volumes: what an input holds, its stacks, their geometry and voxels; NIfTI in and out."""

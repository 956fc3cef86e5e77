"""Pretrain stock nnU-Net networks without labels, on volumes of which the body and the altered voxels are known."""

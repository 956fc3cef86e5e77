"""Trained nnU-Net v2 folders: loaded without running their code, applied tile by tile, back on the source grid."""

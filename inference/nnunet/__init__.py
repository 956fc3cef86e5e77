"""Load trained nnU-Net v2 folders without running code from them, and predict label maps on the source grid."""

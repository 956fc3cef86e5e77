"""Do the masks and the two pretraining methods help a segmentation of few heads? With controls that can fail."""

"""Datasets as files, addressed by the SHA-256 of the dataset."""

"""Decide from the masks whether a series still shows a face."""

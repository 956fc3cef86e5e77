"""Segment folders, zips and NIfTI files into masks and reports, without a server."""

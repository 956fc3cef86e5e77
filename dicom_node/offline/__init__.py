"""Folders, zips and NIfTI files to masks and reports, without any server."""

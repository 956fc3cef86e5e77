"""Read DICOM Part 10 files from untrusted sources (PS3.10 7, PS3.5 7) with bounded memory, time and depth.

All packages open received bytes through this one, so that damaged and hostile bytes are handled in one place. It
imports no other package of the project. It raises `part10.errors`, which each package translates into its own errors.
"""

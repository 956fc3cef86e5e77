"""DICOM Part 10 files from anybody (PS3.10 7, PS3.5 7), read within bounds of memory, time and depth.

Every room that opens received bytes goes through here, so that damaged and hostile bytes meet one guard. This package
knows no other package of the project. It raises `part10.errors`, which each room translates into its own.
"""

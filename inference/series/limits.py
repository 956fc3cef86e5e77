"""Limits on the memory that one input may need: above any real series, and below what any machine has."""

from __future__ import annotations

MAX_OBJECT_BYTES = 4 * 2**30  # one encoded instance; PS3.5 element lengths end here too
MAX_INFLATED_BYTES = 2**30  # of a deflated dataset, which is held in memory, for moments three times
MAX_ENCODED_BYTES = 8 * 2**30  # pixel data of one series as received
MAX_HELD_BYTES = 2**30  # of those, what is held in memory because it had to be inflated or put right to be read
MAX_PLANE_PIXELS = 2**26  # 8192 x 8192
MAX_VOXELS = 2**30  # of all stacks of one series: 4 GiB as float32
MAX_COORDINATE_MM = 1e6  # of a position: a kilometre away lies no patient
PIXEL_SPACINGS_MM = (1e-3, 1e3)  # a micrometre to a metre
MAX_SEQUENCE_ITEMS = 300_000  # where pydicom has to unfold them all to read an unusual file
MAX_UNUSUAL_BYTES = 2**27  # of such a file
MAX_STACKS = 16
MAX_TILES = 1024  # of a mosaic; the largest have some two hundred
MIN_SLICES = 3  # with two, nothing shows whether the distance is the spacing or a gap
MAX_ARCHIVE_MEMBERS = 200_000
MAX_ARCHIVE_BYTES = 64 * 2**30  # sum of a zip's uncompressed sizes

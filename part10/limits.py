"""Bounds on what one file may cost: beyond any real file, and within what any machine has."""

from __future__ import annotations

MAX_ELEMENTS = 100_000  # of a dataset, not counting those in sequences; real headers have some hundreds
MAX_NESTED_ELEMENTS = 3_000_000  # of all sequences of a dataset; ten thousand frames have a third of that
MAX_SEQUENCE_DEPTH = 32
MAX_INFLATED_BYTES = 2**30  # of a deflated dataset, which is held in memory
MAX_HEADER_VALUE_BYTES = 2**16  # private values beyond this are bulk

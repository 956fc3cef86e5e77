"""Limits on the memory and time that one file may cost: above any real file, and below what any machine has."""

from __future__ import annotations

MAX_ELEMENTS = 100_000  # of a dataset, not counting those in sequences; real headers have some hundreds
MAX_NESTED_ELEMENTS = 3_000_000  # in all sequences of a dataset; ten thousand frames have a third of that
MAX_SEQUENCE_DEPTH = 32
MAX_INFLATED_BYTES = 2**30  # of a deflated dataset, which is held in memory
MAX_HEADER_VALUE_BYTES = 2**16  # longer private values are left out of headers

"""Where a series can stand, in one order: whatever comes first asks for more care."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Standing(StrEnum):
    """Where one series stands, the most severe first; verdicts of a volume have the same names."""

    FACE_PRESENT = "face_present"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    CONFLICT = "conflict"  # other content came under a SOP Instance UID of it, and nobody has chosen yet
    EARLIER_PIPELINE = "earlier_pipeline"  # found by models or rules that the node no longer has
    INDETERMINATE = "indeterminate"
    PARTLY_SEEN = "partly_seen"  # fine in what was looked at; there is more of the series, or may be
    DEFACED = "defaced"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"  # no model saw it: it neither clears a study nor is exported with it


VERDICTS = frozenset({Standing.FACE_PRESENT, Standing.INDETERMINATE, Standing.DEFACED, Standing.NOT_APPLICABLE})
"""What a model can say of a volume."""


def most_severe(standings: Collection[Standing]) -> Standing:
    """Return the one that asks for the most care; of several stacks it speaks for the series."""
    return next(standing for standing in Standing if standing in standings)

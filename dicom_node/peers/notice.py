"""What a target is told about a study: its state, and nothing that names a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

WITHDRAWN = frozenset({"open", "held"})
"""States that say nothing about the study: a target that shows states shows none."""


@dataclass(frozen=True, slots=True)
class StudyNotice:
    """State of a study at a moment.

    Attributes
    ----------
    version
        Grows with every state of the study.
    state
        ``open``, ``blocked``, ``review``, ``cleared`` or ``held``.
    decided_by
        ``rules`` or ``person``; None while the study is open.
    standings
        Number of series for each standing.
    """

    study_instance_uid: str
    version: int
    state: str
    decided_by: str | None
    standings: Mapping[str, int]
    evidence_fingerprint: str | None
    since: datetime

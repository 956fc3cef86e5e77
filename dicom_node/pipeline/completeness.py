"""Decide when a series counts as complete.

DICOM has no signal for it: a release is not one, and a study may arrive over several associations. A quiet period is
the only evidence that always exists. After it, a peer that counts as many instances as have arrived confirms it;
otherwise any evidence that more is to come makes the series wait, but never longer than the maximum wait: an
instance that arrives later starts a new generation of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a series waits, counted from its last instance."""

    quiet_s: float
    max_wait_s: float  # if there is evidence that more is to come


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence on a quiet series besides its silence."""

    confirmed: str | None = None  # what shows that all instances have arrived
    doubts: tuple[str, ...] = ()  # evidence that more is to come


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether a series is complete, and why."""

    is_complete: bool
    reason: str
    is_doubted: bool = False  # closed although there is evidence that more is to come, or a peer cannot be asked


def judge_silence(last_arrival_at: datetime, now: datetime, *, quiet_s: float) -> Completeness:
    """Judge whether no instance has arrived for ``quiet_s`` seconds.

    A last arrival in the future never makes a series complete; `count_as_arrived_after_step` corrects such
    arrivals.
    """
    silent_s = (now - last_arrival_at).total_seconds()
    if now >= last_arrival_at + timedelta(seconds=quiet_s):
        return Completeness(True, f"no instance for {silent_s:.0f} s (quiet period {quiet_s:g} s)")
    return Completeness(False, f"last instance {silent_s:.0f} s ago (quiet period {quiet_s:g} s)")


def weigh_evidence(
    last_arrival_at: datetime, now: datetime, patience: Patience, evidence: Evidence, *, is_forced: bool = False
) -> Completeness:
    """Judge whether a series is complete, by its silence and other evidence."""
    doubts = "; ".join(evidence.doubts)
    if is_forced:
        said = f" although {doubts}" if doubts and evidence.confirmed is None else ""
        return Completeness(True, f"completed by hand{said}", is_doubted=bool(said))
    silence = judge_silence(last_arrival_at, now, quiet_s=patience.quiet_s)
    if not silence.is_complete:
        return silence
    if evidence.confirmed is not None:
        return Completeness(True, f"{silence.reason}; {evidence.confirmed}")
    if not doubts:
        return silence
    if now < last_arrival_at + timedelta(seconds=patience.max_wait_s):
        return Completeness(False, f"{silence.reason}, but {doubts} (waits at most {patience.max_wait_s:g} s)")
    silent_s = (now - last_arrival_at).total_seconds()
    return Completeness(True, f"no instance for {silent_s:.0f} s, although {doubts}", is_doubted=True)

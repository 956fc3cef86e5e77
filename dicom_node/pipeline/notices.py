"""Tell targets the states of studies, in the order in which they change, until each target knows the newest one.

A target that is away is asked again without end, since it may still show a state that no longer holds. A study that a
target does not have is told a limited number of times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from dicom_node.failures import ErrorKind, classify, error_code
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.gate.standing import study_standing
from dicom_node.peers import StudyNotice
from dicom_node.peers.errors import StudyNotThereError
from dicom_node.pipeline.heartbeat import Heartbeat
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import OrthancTarget, WebhookTarget
from dicom_node.store import AnnouncementRow, DescribeStudy, JobState, LeaseLostError, NoticeRow, Store

log = logging.getLogger(__name__)

MAX_LEASE_S = 30.0  # a target that was left in the middle, by a process that was killed, waits for so long
LONGEST_WAIT_S = 300.0  # an old state must not stay for long after its target came back
WITHOUT_END = 2**31


class Tell(Protocol):
    """Tells a target a state; `dicom_node.peers.tell` with the node's own AE title."""

    def __call__(self, target: OrthancTarget | WebhookTarget, notice: StudyNotice, /) -> None:
        """Raise `DeliveryError` unless the target knows the state."""
        ...


class Standings:
    """How studies are described, with the node's current rules and models.

    Parameters
    ----------
    pipeline_digest
        Returns the digest of models and rules, which takes too long for every tick.
    """

    def __init__(self, rules: StudyRules, pipeline_digest: Callable[[], str]) -> None:
        self.rules = rules
        self._pipeline_digest = pipeline_digest
        self._digest: str | None = None

    def refresh(self) -> str | None:
        """Look at the models again, and return the digest, or None if they cannot be described."""
        try:
            self._digest = self._pipeline_digest()
        except Exception as error:
            if classify(error) is not ErrorKind.REFUSED:
                raise
            self._digest = None
        return self._digest

    def describe(self) -> DescribeStudy:
        """Return the function that describes a study."""
        return study_standing(self.rules, self._digest or self.refresh())


def announce_states(store: Store, standings: Standings, targets: Sequence[str], *, now: datetime) -> None:
    """Announce the states that have changed, and queue notices of them."""
    n_changed = store.announcements.announce(standings.describe(), targets, now)
    if n_changed:
        log.info("states of studies announced", extra={"n_changed": n_changed})


def mark_outdated_states(store: Store, standings: Standings, targets: Sequence[str]) -> None:
    """Let studies be announced again that were announced for other rules or models, and tell new targets all."""
    digest = standings.refresh()
    store.announcements.mark_outdated(None if digest is None else gate_digest(standings.rules, digest))
    for target in targets:
        store.notices.add_target(target)


@dataclass(frozen=True, slots=True)
class NoticeOutbox:
    """The notices to one target.

    Attributes
    ----------
    retry
        When to try again; its number of attempts holds for studies that the target does not have.
    """

    store: Store
    target: OrthancTarget | WebhookTarget
    tell: Tell
    standings: Standings
    target_names: Sequence[str]
    retry: RetryPolicy
    lease_s: float
    owner: str
    clock: Callable[[], datetime]

    def tell_due(self, *, must_stop: Callable[[], bool]) -> int:
        """Tell what is due until nothing is left, ``must_stop``, or the target is away; return how many were told."""
        n_told = 0
        describe = self.standings.describe()
        while not must_stop():
            claimed = self.store.notices.claim_due(
                self.target.name, self.owner, self.clock(), self.lease_s, describe=describe, targets=self.target_names
            )
            if claimed is None:
                break
            error = self._tell(*claimed)
            if error is None:
                n_told += 1
            elif classify(error) is ErrorKind.TRANSIENT and not isinstance(error, StudyNotThereError):
                break  # the target is away; others would fail as well
        return n_told

    def _tell(self, notice: NoticeRow, announcement: AnnouncementRow) -> Exception | None:
        """Tell one notice, and record what became of it."""
        try:
            with Heartbeat(partial(self._extend, notice), lease_s=self.lease_s):
                self.tell(self.target, _notice_of(announcement))
        except Exception as error:  # noqa: BLE001 - the notice records it
            self._note_failure(notice, error)
            return error
        try:
            self.store.notices.succeed(notice, announcement.state, self.clock())
        except LeaseLostError:
            log.warning("lease of the notice lost, although the target was told", extra=_fields(notice))
        else:
            log.info("told", extra={**_fields(notice), "state": announcement.state})
        return None

    def _extend(self, notice: NoticeRow) -> bool:
        return self.store.notices.heartbeat(notice, self.clock(), self.lease_s)

    def _note_failure(self, notice: NoticeRow, error: Exception) -> None:
        code = error_code(error)
        message = str(error) if code != "internal" else f"{type(error).__name__}, a defect of the node; see its log"
        retry_at = self._policy(error).retry_at(classify(error), notice.attempt_number, self.clock())
        if code == "internal":
            log.error("notice failed", extra=_fields(notice), exc_info=error)
        try:
            state = self.store.notices.fail(notice, code=code, message=message, retry_at=retry_at)
        except LeaseLostError:
            log.warning("lease of the notice lost, its failure is dropped", extra={**_fields(notice), "code": code})
            return
        level = (
            logging.DEBUG if isinstance(error, StudyNotThereError) and state is JobState.WAITING else logging.WARNING
        )
        log.log(level, "not told: %s", message, extra={**_fields(notice), "code": code, "state": state.value})

    def _policy(self, error: Exception) -> RetryPolicy:
        if classify(error) is not ErrorKind.TRANSIENT or isinstance(error, StudyNotThereError):
            return self.retry
        longest_s = min(LONGEST_WAIT_S, self.retry.max_backoff_s)
        return replace(self.retry, max_attempts=WITHOUT_END, max_backoff_s=longest_s)


def _notice_of(announcement: AnnouncementRow) -> StudyNotice:
    return StudyNotice(
        announcement.study_instance_uid,
        announcement.version,
        announcement.state,
        announcement.decided_by,
        announcement.standings,
        announcement.evidence_fingerprint,
        announcement.since,
    )


def _fields(notice: NoticeRow) -> dict[str, object]:
    """Return the fields of every log line about a notice."""
    return {
        "notice_id": notice.id,
        "target": notice.target,
        "study_instance_uid": notice.study_instance_uid,
        "version": notice.version,
        "attempt_number": notice.attempt_number,
    }

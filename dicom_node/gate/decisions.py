"""Combine the rules' state of a study with a person's newest decision: whether the study may leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from unicodedata import category

from dicom_node.gate.errors import DecisionRefusedError
from dicom_node.gate.rules import StudyRules
from dicom_node.store import DecisionKind, DecisionRow, GateTerms, Store, StudyRow, StudyState

MAX_REASON = 1000  # characters
MAX_NAME = 100
_NO_TEXT = frozenset({"Cc", "Cs"})  # control characters and halves of UTF-16, which no database takes all of


class GateState(StrEnum):
    """Whether a study may leave the node; only ``cleared`` ones may."""

    OPEN = "open"
    BLOCKED = "blocked"
    REVIEW = "review"
    CLEARED = "cleared"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Standpoint:
    """State of a study after rules and decisions, and the reason.

    Attributes
    ----------
    decision
        The newest decision of a person, even if it no longer counts.
    is_released
        Cleared by a person, not by the rules.
    """

    study: StudyRow
    state: GateState
    reason: str
    decision: DecisionRow | None
    is_released: bool = False


def standpoint_of(study: StudyRow, decision: DecisionRow | None, gate_digest: str, rules: StudyRules) -> Standpoint:
    """Combine the rules' state with a decision.

    A hold survives new evidence. A release covers only the evidence it was given for and overrules a visible
    face only if the rules allow it. A study that was judged by other rules, or for another pipeline, is open.

    Parameters
    ----------
    gate_digest
        Digest of the node's current rules and pipeline.
    """
    if decision is not None and decision.kind is DecisionKind.HOLD:
        return Standpoint(study, GateState.HELD, f"held by {decision.decided_by}: {decision.reason}", decision)
    if study.state is StudyState.OPEN:
        return Standpoint(study, GateState.OPEN, "still receiving, or not judged yet", decision)
    if study.gate_digest != gate_digest:
        return Standpoint(study, GateState.OPEN, "rules or models have changed; it will be judged again", decision)
    state, reason = GateState(study.state.value), study.reason or ""
    if decision is None or decision.kind is DecisionKind.WITHDRAW or state is GateState.CLEARED:
        return Standpoint(study, state, reason, decision)
    if decision.evidence_fingerprint != study.evidence_fingerprint:
        return Standpoint(
            study, state, f"{reason}; a release by {decision.decided_by} was for earlier evidence", decision
        )
    if state is GateState.BLOCKED and rules.release_of_blocked != "allowed":
        return Standpoint(study, state, f"{reason}; the rules allow no release of a blocked study", decision)
    told = f"released by {decision.decided_by}: {decision.reason} ({reason})"
    return Standpoint(study, GateState.CLEARED, told, decision, is_released=True)


def standpoints(
    store: Store, studies: Iterable[StudyRow], gate_digest: str, rules: StudyRules
) -> tuple[Standpoint, ...]:
    """Return the standpoints of studies, in their order."""
    rows = tuple(studies)
    newest = store.decisions.newest([row.study_instance_uid for row in rows])
    return tuple(standpoint_of(row, newest.get(row.study_instance_uid), gate_digest, rules) for row in rows)


def list_standpoints(
    store: Store,
    gate_digest: str,
    rules: StudyRules,
    *,
    state: GateState | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> tuple[Standpoint, ...]:
    """Return the latest studies in a state, or in any state, at most ``limit``; the index selects and counts them."""
    if state is None:
        page = store.studies.list(limit=limit, offset=offset)
    else:
        terms = GateTerms(gate_digest, may_release_blocked=rules.release_of_blocked == "allowed")
        page = store.studies.in_gate_state(state.value, terms, limit=limit, offset=offset)
    # A study may have changed since it was selected.
    return tuple(one for one in standpoints(store, page, gate_digest, rules) if state in (None, one.state))


def decide(
    store: Store,
    study_instance_uid: str,
    kind: DecisionKind,
    *,
    reason: str,
    decided_by: str,
    now: datetime,
    gate_digest: str,
    rules: StudyRules,
    seen_evidence: str | None = None,
) -> DecisionRow:
    """Record a person's decision on a study.

    Parameters
    ----------
    seen_evidence
        Fingerprint of the evidence that the person looked at; None if there is nothing to compare.

    Raises
    ------
    EvidenceChangedError
        The evidence is no longer what the person looked at.
    DecisionRefusedError
        Reason or name is missing, too long or no text; the study to release is open, or is blocked and the rules do not
        allow its release; or there is nothing to withdraw.
    NotFoundError
        The index has no such study.
    """
    words = {"reason": (reason.strip(), MAX_REASON), "name": (decided_by.strip(), MAX_NAME)}
    for what, (text, longest) in words.items():
        if not text:
            raise DecisionRefusedError(study_instance_uid, f"the {what} is empty; please state it")
        if len(text) > longest:
            raise DecisionRefusedError(study_instance_uid, f"the {what} has {len(text)} characters, at most {longest}")
        if any(category(letter) in _NO_TEXT and letter not in "\r\n\t" for letter in text):
            raise DecisionRefusedError(study_instance_uid, f"the {what} has control characters; leave them out")

    def check(study: StudyRow) -> None:
        if kind is DecisionKind.HOLD:
            return
        if kind is DecisionKind.WITHDRAW:
            newest = store.decisions.of(study_instance_uid)[:1]
            if not newest or newest[0].kind is DecisionKind.WITHDRAW:
                raise DecisionRefusedError(study_instance_uid, "has no decision that could be withdrawn")
            return
        if study.state is StudyState.OPEN or study.gate_digest != gate_digest:
            finding = "is open, and nothing is complete that could be released; wait until it is judged"
            raise DecisionRefusedError(study_instance_uid, finding)
        if study.state is StudyState.BLOCKED and rules.release_of_blocked != "allowed":
            finding = f"is blocked ({study.reason}), and the rules allow no release of a blocked study"
            raise DecisionRefusedError(study_instance_uid, f"{finding} (study.release_of_blocked)")

    return store.decisions.add(
        study_instance_uid,
        kind,
        reason=words["reason"][0],
        decided_by=words["name"][0],
        now=now,
        check=check,
        seen_evidence=seen_evidence,
    )


def undo(store: Store, study_instance_uid: str, decision_id: int, *, decided_by: str, now: datetime) -> DecisionRow:
    """Take back the newest decision on a study, by one more; a hold that it had ended holds again.

    Raises
    ------
    DecisionRefusedError
        It is not the newest decision, or the name is missing.
    NotFoundError
        The index has no such study.
    """
    if not decided_by.strip():
        raise DecisionRefusedError(study_instance_uid, "the name is empty; please state it")
    earlier = store.decisions.of(study_instance_uid)[:2]
    was_held = len(earlier) > 1 and earlier[1].kind is DecisionKind.HOLD
    reason = f"undo of decision {decision_id}" + (f": {earlier[1].reason}" if was_held else "")

    def check(_: StudyRow) -> None:
        newest = store.decisions.of(study_instance_uid)[:1]
        if [row.id for row in newest] != [decision_id]:
            raise DecisionRefusedError(study_instance_uid, "somebody has decided on it since; look at it again")

    return store.decisions.add(
        study_instance_uid,
        DecisionKind.HOLD if was_held else DecisionKind.WITHDRAW,
        reason=reason[:MAX_REASON],
        decided_by=decided_by.strip()[:MAX_NAME],
        now=now,
        check=check,
    )

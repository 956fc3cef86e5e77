"""Exported studies that may no longer leave: they count as withdrawn, so that those who have them can be told."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from dicom_node.gate.decisions import GateState, standpoints
from dicom_node.gate.rules import StudyRules
from dicom_node.store import ExportRow, NotFoundError, Store, StudyRow

log = logging.getLogger(__name__)

_MAY_NOT_LEAVE = frozenset({GateState.BLOCKED, GateState.REVIEW, GateState.HELD})


def withdraw_exports(store: Store, gate_digest: str, rules: StudyRules, now: datetime) -> tuple[ExportRow, ...]:
    """Mark exports as withdrawn if their study is blocked, in review or held; return them.

    Studies of which only a part may have left count too. A study that is open again is not judged yet, so its export
    stays what it is until then. Nothing is recalled.

    Parameters
    ----------
    gate_digest
        Digest of the node's current rules and pipeline.
    """
    doubtful = store.exports.in_doubt()
    studies: dict[str, StudyRow] = {}
    for uid in {row.study_instance_uid for row in doubtful}:
        with suppress(NotFoundError):  # deleted meanwhile, which has withdrawn its exports
            studies[uid] = store.studies.get(uid)
    standing = {one.study.study_instance_uid: one for one in standpoints(store, studies.values(), gate_digest, rules)}
    withdrawn: list[ExportRow] = []
    for row in doubtful:
        found = standing.get(row.study_instance_uid)
        if found is None or found.state not in _MAY_NOT_LEAVE:
            continue
        because = "a person holds the study" if found.state is GateState.HELD else f"the study is now {found.state}"
        store.exports.withdraw(row, because, now)
        log.warning(
            "an exported study may no longer leave; tell those who have its copy",
            extra={"study_instance_uid": row.study_instance_uid, "project": row.project, "state": found.state.value},
        )
        withdrawn.append(row)
    return tuple(withdrawn)

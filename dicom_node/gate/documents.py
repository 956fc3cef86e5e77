"""Studies as JSON documents, for the command line and for HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.gate.decisions import Standpoint, standpoints
from dicom_node.gate.judging import standing_of
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.gate.standing import UNKNOWN_DIGEST
from dicom_node.store import DecisionRow, GateTerms, Store

UIDS_AT_ONCE: Final = 500

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules for studies and the pipeline that a node has now.

    Attributes
    ----------
    pipeline_digest
        None if the models cannot be described; whatever is not held is open then.
    """

    rules: StudyRules
    pipeline_digest: str | None

    @property
    def digest(self) -> str:
        """Digest by which studies must have been judged."""
        return UNKNOWN_DIGEST if self.pipeline_digest is None else gate_digest(self.rules, self.pipeline_digest)

    @property
    def for_index(self) -> GateTerms:
        """What the index needs to know of them to select studies by their state."""
        return GateTerms(self.digest, may_release_blocked=self.rules.release_of_blocked == "allowed")


def study_document(store: Store, terms: Terms, study_instance_uid: str) -> Document:
    """Return one study; raise `NotFoundError` if the index has no such study."""
    found = standpoints(store, [store.studies.get(study_instance_uid)], terms.digest, terms.rules)
    return documents(store, terms, found)[0]


def study_history(store: Store, study_instance_uid: str) -> tuple[DecisionRow, ...]:
    """Return the decisions on a study, the newest first; raise `NotFoundError` if the index has no such study."""
    store.studies.get(study_instance_uid)
    return store.decisions.of(study_instance_uid)


def documents(store: Store, terms: Terms, found: Sequence[Standpoint]) -> list[Document]:
    """Return a document for each study, with its received series; `dicom_node.json_values` makes JSON of it."""
    made = []
    for start in range(0, len(found), UIDS_AT_ONCE):
        some = found[start : start + UIDS_AT_ONCE]
        uids = [one.study.study_instance_uid for one in some]
        evidence = store.studies.series_evidence(uids)
        key_objects = store.key_objects.current(uids)
        compared = None if terms.rules.earlier_pipeline == "accepted" else terms.pipeline_digest
        for one in some:
            study = one.study
            series = [
                {
                    "series_instance_uid": each.series_instance_uid,
                    "modality": each.modality,
                    "state": each.state.value,
                    "standing": standing_of(each, compared).value,
                    "verdicts": list(each.verdicts),
                    "skip_reason": each.skip_reason,
                    "n_conflicts": each.n_conflicts,
                }
                for each in evidence[study.study_instance_uid]
            ]
            made.append(
                {
                    "study_instance_uid": study.study_instance_uid,
                    "state": one.state.value,
                    "reason": one.reason,
                    "is_released": one.is_released,
                    "last_arrival_at": study.last_arrival_at,
                    "judged_at": study.judged_at,
                    "evidence_fingerprint": study.evidence_fingerprint,
                    "decision": one.decision,
                    "key_object_document": key_objects.get(study.study_instance_uid),
                    "series": series,
                }
            )
    return made

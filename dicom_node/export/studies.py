"""Export the cleared studies of a node: select, stage, de-identify, verify and publish them in a folder.

A study is published completely or not at all, and only if its evidence, checked under the store's write lock, is still
the evidence on which it was selected. The manifest names studies by their pseudonyms only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node.export.cleaner import Cleaner, Report
from dicom_node.export.copying import Copied, write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.manifest import MANIFEST_FILE, Manifest, Refusal
from dicom_node.export.output import STAGING_FOLDER, alone_in, check_output, publish
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.gate.decisions import GateState, Standpoint, list_standpoints, standpoint_of, standpoints
from dicom_node.gate.judging import standing_of
from dicom_node.gate.rules import StudyRules
from dicom_node.gate.severity import Standing
from dicom_node.store import InstanceRow, JobState, NotFoundError, SeriesEvidence, SeriesState, Store

_SEEN: Final = frozenset(
    {Standing.DEFACED, Standing.NOT_APPLICABLE, Standing.PARTLY_SEEN, Standing.INDETERMINATE, Standing.FACE_PRESENT}
)
# A copy that fails its verification shows that a rule is wrong for this study, so nothing of the study is exported.
_QUARANTINE: Final = frozenset({"residue", "not-verified"})
_MAX_STUDIES: Final = 10**7


class Outcome(StrEnum):
    """Outcome for a study."""

    EXPORTED = "exported"
    NOT_CLEARED = "not-cleared"
    UNKNOWN = "unknown-study"
    SOURCES_DELETED = "sources-deleted"
    NOTHING_TO_EXPORT = "nothing-to-export"
    QUARANTINED = "quarantined"
    CHANGED = "changed-meanwhile"
    WOULD_BE_EXPORTED = "would-be-exported"  # a dry run


@dataclass(slots=True)
class _Run:
    copied: list[Copied] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    studies: list[dict[str, Any]] = field(default_factory=list)
    n_in: int = 0


@dataclass(frozen=True, slots=True)
class GateTerms:
    """Rules and pipeline by which a study must have been judged to leave."""

    rules: StudyRules
    pipeline_digest: str
    digest: str


def export_studies(
    store: Store,
    output: Path,
    terms: GateTerms,
    *,
    profile: Profile,
    pseudonyms: Pseudonyms,
    now: Callable[[], datetime],
    cohort: Sequence[str] | None = None,
    is_dry_run: bool = False,
    on_study: Callable[[], None] = lambda: None,
) -> Manifest:
    """Export the cleared studies of a cohort, or of the node, and write a manifest, even if nothing may leave.

    Parameters
    ----------
    cohort
        Study Instance UIDs; None means all studies of the node.
    is_dry_run
        Do everything but publish.

    Raises
    ------
    OutputFolderError
        ``output`` belongs to another key or project, or cannot be written.
    """
    check_output(output, pseudonyms)
    with alone_in(output):
        exporting = _Exporting(store, output, terms, Cleaner(profile, pseudonyms), now, is_dry_run)
        for uid, found in _selected(store, terms, cohort):
            exporting.export(uid, found)
            on_study()
        shutil.rmtree(output / STAGING_FOLDER, ignore_errors=True)
        run = exporting.run
        manifest = Manifest.of(
            run.copied,
            run.refused,
            run.report,
            0,
            0,
            run.n_in,
            profile,
            pseudonyms,
            gate_digest=terms.digest,
            is_dry_run=is_dry_run,
            studies=run.studies,
        )
        manifest.write(output / (f"dry-run-{MANIFEST_FILE}" if is_dry_run else MANIFEST_FILE))
        return manifest


def _selected(store: Store, terms: GateTerms, cohort: Sequence[str] | None) -> list[tuple[str, Standpoint | None]]:
    if cohort is None:
        found = list_standpoints(store, terms.digest, terms.rules, limit=_MAX_STUDIES)
        return [(one.study.study_instance_uid, one) for one in reversed(found)]
    selected: list[tuple[str, Standpoint | None]] = []
    for uid in dict.fromkeys(cohort):
        try:
            (found_one,) = standpoints(store, [store.studies.get(uid)], terms.digest, terms.rules)
        except NotFoundError:
            selected.append((uid, None))
        else:
            selected.append((uid, found_one))
    return selected


class _Exporting:
    """State of one export."""

    def __init__(
        self,
        store: Store,
        output: Path,
        terms: GateTerms,
        cleaner: Cleaner,
        now: Callable[[], datetime],
        is_dry_run: bool,
    ) -> None:
        self.run = _Run()
        self._store = store
        self._output = output
        self._terms = terms
        self._cleaner = cleaner
        self._now = now
        self._is_dry_run = is_dry_run

    def export(self, uid: str, found: Standpoint | None) -> None:
        """Export one study if it may leave, and record its outcome."""
        if found is None:
            self._note(uid, Outcome.UNKNOWN, "the node has no such study")
            return
        if found.state is not GateState.CLEARED:
            self._note(uid, Outcome.NOT_CLEARED, f"{found.state}: {found.study.reason or 'not judged yet'}")
            return
        evidence = self._store.studies.evidence(uid)
        if evidence.fingerprint != found.study.evidence_fingerprint:
            self._note(uid, Outcome.CHANGED, "something arrived after the study was judged; it will be judged again")
            return
        seen = [one for one in evidence.series if self._standing(one) in _SEEN]
        if any(one.state is SeriesState.DELETED for one in seen):
            self._note(uid, Outcome.SOURCES_DELETED, "retention has deleted the instances of a series; send them again")
            return
        staging = self._output / STAGING_FOLDER
        shutil.rmtree(staging, ignore_errors=True)
        copied, quarantined_by = self._stage(seen, staging, is_released=found.is_released)
        if quarantined_by is not None:
            self._note(uid, Outcome.QUARANTINED, str(quarantined_by))
        elif not copied:
            self._note(uid, Outcome.NOTHING_TO_EXPORT, "the profile allows none of its objects")
        elif self._is_dry_run:
            self._take(uid, Outcome.WOULD_BE_EXPORTED, copied)
        elif self._publish(uid, evidence.fingerprint, staging, copied):
            self._take(uid, Outcome.EXPORTED, copied)
        else:
            self._note(uid, Outcome.CHANGED, "something arrived or was decided while it was de-identified")

    def _standing(self, series: SeriesEvidence) -> Standing:
        terms = self._terms
        return standing_of(series, None if terms.rules.earlier_pipeline == "accepted" else terms.pipeline_digest)

    def _stage(
        self, seen: Sequence[SeriesEvidence], staging: Path, *, is_released: bool
    ) -> tuple[list[Copied], NotExportableError | None]:
        """Write verified copies of every series that a model saw, and of its results if the whole series is copied."""
        copied: list[Copied] = []
        for series in seen:
            sources = self._store.series.instances(series.series_instance_uid, generation=series.generation)
            is_face_gone = is_released or self._standing(series) is Standing.DEFACED
            try:
                images, n_refused = self._copy(sources, staging, is_face_gone=is_face_gone)
                results = [] if n_refused else self._copy(self._results(series), staging, is_face_gone=False)[0]
            except NotExportableError as error:
                return [], error
            copied += images + results
        return copied, None

    def _copy(self, rows: Sequence[InstanceRow], staging: Path, *, is_face_gone: bool) -> tuple[list[Copied], int]:
        copied: list[Copied] = []
        n_refused = 0
        for row in rows:
            self.run.n_in += 1
            try:
                with self._store.objects.open(row.digest) as file:
                    copied.append(write_copy(file, staging, self._cleaner, is_face_gone=is_face_gone))
            except NotExportableError as error:
                if error.reason in _QUARANTINE:
                    raise
                n_refused += 1
                self.run.refused.append(Refusal(self.run.n_in, error.reason, str(error)))
        return copied, n_refused

    def _results(self, series: SeriesEvidence) -> tuple[InstanceRow, ...]:
        """Return the results of the current generation that no later one replaced."""
        jobs = [
            job
            for job in self._store.jobs.list(
                series_instance_uid=series.series_instance_uid, states=(JobState.SUCCEEDED,)
            )
            if job.generation == series.generation
        ]
        rows: list[InstanceRow] = []
        for job in jobs:
            for result in self._store.jobs.results(job.id):
                if result.superseded_by_job_id is None:
                    rows += self._store.search.find_instances(sop_instance_uid=result.sop_instance_uid)
        return tuple(rows)

    def _publish(self, uid: str, fingerprint: str, staging: Path, copied: Sequence[Copied]) -> bool:
        """Publish the study if it may still leave; nothing can arrive or be decided meanwhile."""
        terms = self._terms
        with self._store.decisions.while_unchanged(uid) as (study, known, decision):
            standpoint = standpoint_of(study, decision, terms.digest, terms.rules)
            if known != fingerprint or standpoint.state is not GateState.CLEARED:
                return False
            for folder in sorted({one.relative_path.parents[1] for one in copied}):
                publish(staging / folder, self._output / folder)
        self._store.audit.record(
            "exported",
            actor="export",
            subject=uid,
            now=self._now(),
            detail={
                "project": self._cleaner.pseudonyms.project,
                "n_instances": len(copied),
                "evidence_fingerprint": fingerprint,
                "gate_digest": terms.digest,
            },
        )
        return True

    def _take(self, uid: str, outcome: Outcome, copied: Sequence[Copied]) -> None:
        self.run.copied += copied
        for one in copied:
            self.run.report.add(one.report)
        self._note(uid, outcome, "", n_instances=len(copied))

    def _note(self, uid: str, outcome: Outcome, reason: str, *, n_instances: int = 0) -> None:
        self.run.studies.append(
            {
                "study": self._cleaner.pseudonyms.mapped_uid(uid),
                "outcome": outcome.value,
                "reason": reason,
                "n_instances": n_instances,
            }
        )

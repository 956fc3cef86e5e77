"""Export the cleared studies of a node: select, stage, de-identify, verify, and publish them at a target.

A study is published completely or not at all, and only if its evidence, checked under the store's write lock, is still
the evidence on which it was selected. The manifest names studies by their pseudonyms only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.export.cleaner import Report
from dicom_node.export.copying import Copied
from dicom_node.export.manifest import MANIFEST_FILE, Manifest
from dicom_node.export.output import STAGING_FOLDER, alone_in, check_output
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.readiness import Outcome, Stays, check_key, readiness, still_cleared
from dicom_node.export.selection import GateTerms, objects_of, select_studies
from dicom_node.export.staging import Staged, Stager
from dicom_node.export.targets import Target
from dicom_node.export.workers import copying_processes
from dicom_node.gate.decisions import Standpoint
from dicom_node.gate.withdrawals import withdraw_exports
from dicom_node.store import ExportState, NewExport, Store


@dataclass(slots=True)
class _Run:
    copied: list[Copied] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    studies: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is told while an export runs."""

    begin: Callable[[int], None] = lambda _: None  # number of studies
    study: Callable[[str, str], None] = lambda _, __: None  # one more is finished: Study Instance UID, outcome


def export_studies(
    store: Store,
    work: Path,
    target: Target,
    terms: GateTerms,
    *,
    profile: Profile,
    pseudonyms: Pseudonyms,
    now: Callable[[], datetime],
    cohort: Sequence[str] | None = None,
    is_dry_run: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Export the cleared studies of a cohort, or of the node, and write a manifest, even if nothing may leave.

    Parameters
    ----------
    work
        Folder of the manifest and of the copies until they are published: the target itself if it is a folder.
    cohort
        Study Instance UIDs; None means all studies of the node.
    is_dry_run
        Do everything but publish.
    workers
        Processes that de-identify; each holds one object at a time.

    Raises
    ------
    OutputFolderError
        ``work`` belongs to another key or project, or cannot be written.
    KeyFileError
        The project was exported with another key before, wherever to.
    """
    told = progress or Progress()
    check_key(store, pseudonyms)
    check_output(work, pseudonyms)
    with alone_in(work), copying_processes(workers, profile, pseudonyms) as apply:
        stager = Stager(store.objects, work / STAGING_FOLDER, apply)
        if not is_dry_run:
            withdraw_exports(store, terms.digest, terms.rules, now())
        exporting = _Exporting(store, target, terms, pseudonyms, stager, is_dry_run)
        selected = select_studies(store, terms, cohort)
        told.begin(len(selected))
        for uid, found in selected:
            exporting.export(uid, found)
            told.study(uid, exporting.run.studies[-1]["outcome"])
        stager.discard()
        run = exporting.run
        manifest = Manifest.of(
            run.copied,
            stager.refused,
            run.report,
            0,
            0,
            stager.n_in,
            profile,
            pseudonyms,
            target=target.in_manifest,
            gate_digest=terms.digest,
            pipeline_digest=terms.pipeline_digest,
            is_dry_run=is_dry_run,
            studies=run.studies,
            withdrawn=exporting.withdrawn(),
        )
        manifest.write(work / (f"dry-run-{MANIFEST_FILE}" if is_dry_run else MANIFEST_FILE))
        return manifest


class _Exporting:
    """State of one export."""

    def __init__(
        self,
        store: Store,
        target: Target,
        terms: GateTerms,
        pseudonyms: Pseudonyms,
        stager: Stager,
        is_dry_run: bool,
    ) -> None:
        self.run = _Run()
        self._store = store
        self._target = target
        self._terms = terms
        self._pseudonyms = pseudonyms
        self._stager = stager
        self._is_dry_run = is_dry_run

    def export(self, uid: str, found: Standpoint | None) -> None:
        """Export one study if it may leave, and record its outcome."""
        ready = readiness(self._store, uid, found, self._terms)
        if isinstance(ready, Stays):
            self._note(uid, ready.outcome, ready.reason)
            return
        objects = objects_of(self._store, ready.seen, self._terms, is_released=ready.is_released)
        staged = self._stager.stage(objects)
        if staged.keeps_in is not None:
            self._note(uid, Outcome(staged.keeps_in[0]), staged.keeps_in[1])
        elif not staged.copied:
            self._note(uid, Outcome.NOTHING_TO_EXPORT, "the profile allows none of its objects")
        elif self._is_dry_run:
            self._take(staged.copied)
            self._note(uid, Outcome.WOULD_BE_EXPORTED, "", n_instances=len(staged.copied))
        else:
            self._publish(uid, ready.fingerprint, staged)

    def withdrawn(self) -> list[dict[str, Any]]:
        """Return what was published or sent to this target before and should no longer be there."""
        rows = self._store.exports.list(
            target=self._target.name, key_fingerprint=self._pseudonyms.fingerprint(), state=ExportState.WITHDRAWN
        )
        return [
            {
                "study": row.copy_study_instance_uid,
                "withdrawn_at": None if row.withdrawn_at is None else row.withdrawn_at.isoformat(),
                "reason": row.withdrawn_because,
            }
            for row in rows
        ]

    def _publish(self, uid: str, fingerprint: str, staged: Staged) -> None:
        new = NewExport(
            study_instance_uid=uid,
            copy_study_instance_uid=self._pseudonyms.mapped_uid(uid),
            project=self._pseudonyms.project,
            key_fingerprint=self._pseudonyms.fingerprint(),
            target=self._target.name,
            evidence_fingerprint=fingerprint,
            gate_digest=self._terms.digest,
            content_digest=staged.content_digest,
            n_instances=len(staged.copied),
        )
        publication = self._target.publish(staged, new, still_cleared(self._terms, fingerprint))
        outcome = Outcome(publication.outcome)
        if outcome is Outcome.EXPORTED:
            self._take(staged.copied)
        self._note(uid, outcome, publication.reason, n_instances=len(staged.copied), n_arrived=publication.n_arrived)

    def _take(self, copied: Sequence[Copied]) -> None:
        self.run.copied += copied
        for one in copied:
            self.run.report.add(one.report)

    def _note(self, uid: str, outcome: Outcome, reason: str, *, n_instances: int = 0, n_arrived: int = 0) -> None:
        self.run.studies.append(
            {
                "study": self._pseudonyms.mapped_uid(uid),
                "outcome": outcome.value,
                "reason": reason,
                "n_instances": n_instances,
                "n_arrived": n_arrived,
            }
        )

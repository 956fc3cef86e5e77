"""Publish the volumes of a study in a dataset: all by renaming, while its evidence is compared under the write lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_node.cleared_datasets.series_task import VolumeOutcome
from dicom_node.export.output import publish
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.readiness import still_cleared
from dicom_node.export.selection import GateTerms
from dicom_node.store import DATASET_TARGET, ExportRow, NewExport, Store


@dataclass(frozen=True, slots=True)
class Published:
    """A study whose volumes are in the dataset."""

    row: ExportRow
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes studies into one dataset."""

    store: Store
    volumes: Path
    terms: GateTerms
    pseudonyms: Pseudonyms
    now: Callable[[], datetime]
    by: str = "export"  # who exports, for the audit trail

    @property
    def target(self) -> str:
        """How the store remembers the dataset."""
        return f"{DATASET_TARGET}{self.volumes.parent.resolve()}"

    def publish(
        self, study_instance_uid: str, fingerprint: str, volumes: Sequence[VolumeOutcome], staging: Path
    ) -> Published | None:
        """Publish the volumes of a study; return None, with nothing published, if it may no longer leave."""
        may_leave = still_cleared(self.terms, fingerprint)
        begun = self.store.exports.begin(self._new(study_instance_uid, fingerprint, volumes), may_leave, self.now())
        if begun is None:
            return None
        with self.store.exports.publishing(begun, may_leave, self.now(), by=self.by) as is_fine:
            if is_fine:
                for volume in volumes:
                    if volume.is_new:
                        publish(staging / volume.id, self.volumes / volume.id)
        if not is_fine:
            self.store.exports.forget(begun)
            return None
        return Published(begun, fingerprint)

    def withdraw_if_changed(self, study_instance_uid: str, published: Published) -> bool:
        """Ask again whether a published study may leave; if not, its export is withdrawn."""
        if self.store.exports.may_leave(study_instance_uid, still_cleared(self.terms, published.fingerprint)):
            return False
        because = "it changed while the dataset was written"
        self.store.exports.withdraw(published.row, because, self.now(), by=self.by)
        return True

    def _new(self, study_instance_uid: str, fingerprint: str, volumes: Sequence[VolumeOutcome]) -> NewExport:
        keys = sorted(f"{one.id} {one.record['key']}\n" for one in volumes if one.record is not None)
        return NewExport(
            study_instance_uid=study_instance_uid,
            copy_study_instance_uid=self.pseudonyms.mapped_uid(study_instance_uid),
            project=self.pseudonyms.project,
            key_fingerprint=self.pseudonyms.fingerprint(),
            target=self.target,
            evidence_fingerprint=fingerprint,
            gate_digest=self.terms.digest,
            content_digest=hashlib.sha256("".join(keys).encode()).hexdigest(),
            n_instances=len(keys),
        )

"""Studies that a node has judged, and their export, for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom import Dataset

from dicom_node.export.manifest import is_unbroken
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.selection import GateTerms
from dicom_node.export.studies import export_studies
from dicom_node.export.targets import FolderTarget, Target
from dicom_node.gate.decisions import decide
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.store import DecisionKind, NewResult, NewVerdict, Outcome, Store
from tests.arrivals import receive
from tests.factories import SyntheticSeries, ct_series
from tests.sr_writer.writing import headers_of, masks_on, write
from tests.store.sending import closing

DIGEST = "d" * 64
RULES = StudyRules()
TERMS = GateTerms(RULES, DIGEST, gate_digest(RULES, DIGEST))
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
NAMES = Pseudonyms("HEADS", bytes(range(32)))


def patient(ds: Dataset, _: int) -> None:
    ds.PatientID, ds.PatientName = "MRN-123456", "Zyxwvut^Qrstu"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]


def looked_at(store: Store, verdict: str, seed: str = "a", *, with_seg: bool = True) -> SyntheticSeries:
    """A study of one series that was received, closed, looked at and given a SEG."""
    series = ct_series(n_slices=3, seed=seed, edit=patient)
    receive(store, series, at=NOW)
    row = store.series.get(series.series_instance_uid)
    store.closing.complete(row, closing(digest=DIGEST), NOW)
    job = store.jobs.claim("w", NOW, 60, pipeline_digest=DIGEST)
    assert job is not None
    written = write(headers_of(series), series.truth.get_geometry(), *masks_on(series.voxels.shape))
    assert written is not None
    result = NewResult(
        "seg", 1, written.sop_class_uid, written.sop_instance_uid, written.transfer_syntax_uid, written.encoded_dataset
    )
    outcome = Outcome(
        results=(result,) if with_seg else (), verdicts=(NewVerdict(1, verdict, 0.9, (), frozenset(), {}),)
    )
    store.jobs.succeed(job.id, "w", outcome, NOW, decide_study=study_decision(RULES, DIGEST))
    return series


def export(store: Store, output: Path, *, target: Target | None = None, **options: Any) -> dict[str, Any]:
    manifest = export_studies(
        store,
        output,
        target or FolderTarget(store, output, lambda: NOW),
        options.pop("terms", TERMS),
        profile=options.pop("profile", None) or read_profile(None),
        pseudonyms=options.pop("pseudonyms", NAMES),
        now=lambda: NOW,
        **options,
    )
    assert is_unbroken(manifest.content)
    return manifest.content


def outcomes(content: dict[str, Any]) -> dict[str, str]:
    return {one["study"]: one["outcome"] for one in content["studies"]}


def copies(output: Path) -> list[Path]:
    return sorted(output.rglob("*.dcm"))


def say(store: Store, series: SyntheticSeries, kind: DecisionKind) -> None:
    decide(
        store,
        series.study_instance_uid,
        kind,
        reason="looked at",
        decided_by="Ann",
        now=NOW + timedelta(seconds=5),
        gate_digest=TERMS.digest,
        rules=RULES,
    )

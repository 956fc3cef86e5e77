"""Small studies that were received and judged, for the forty cases of what may leave."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.selection import GateTerms
from dicom_node.export.studies import export_studies
from dicom_node.export.targets import FolderTarget, Target
from dicom_node.gate.decisions import Standpoint, decide, standpoints
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.store import DecisionKind, JobState, NewResult, NewVerdict, Outcome, Skip, Store
from tests.store.sending import STUDY, Sent, closing, instance, keep

DIGEST = "d" * 64
RULES = StudyRules()
NAMES = Pseudonyms("HEADS", bytes(range(32)))
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
PIXELS = np.arange(256, dtype="<u2").tobytes()
IMAGE: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "PatientID": "MRN-481516",
    "PatientName": "Zyxwvut^Qrstu",
    "AccessionNumber": "ACC-2342",
    "BitsStored": 16,
    "HighBit": 15,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelRepresentation": 0,
    "PixelData": PIXELS,
}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def image(number: int = 1, *, series: str = "1.2.3.4", study: str = STUDY, **attributes: Any) -> Sent:
    """One small CT image that the profile lets through."""
    return instance(number, series=series, study=study, **(IMAGE | attributes))


def received(store: Store, series: str = "1.2.3.4", study: str = STUDY, n: int = 2, **attributes: Any) -> None:
    for number in range(1, n + 1):
        keep(store, image(number, series=series, study=study, **attributes))


def seen(
    store: Store,
    *verdicts: str,
    series: str = "1.2.3.4",
    study: str = STUDY,
    rules: StudyRules = RULES,
    digest: str = DIGEST,
    remarks: Sequence[str] = (),
    results: Sequence[NewResult] = (),
    n: int = 2,
    **attributes: Any,
) -> None:
    """A series that was received, closed and looked at, and its study judged."""
    received(store, series, study, n, **attributes)
    store.closing.complete(store.series.get(series), closing(digest=digest), at(10))
    job = store.jobs.claim("w", at(11), 60, pipeline_digest=digest)
    assert job is not None
    found = tuple(
        NewVerdict(number, verdict, 0.9, (), frozenset(remarks), {}) for number, verdict in enumerate(verdicts, start=1)
    )
    outcome = Outcome(results=tuple(results), verdicts=found)
    store.jobs.succeed(job.id, "w", outcome, at(12), decide_study=study_decision(rules, digest))


def skipped(store: Store, series: str, study: str = STUDY, why: str = "rule-scout: few slices") -> None:
    received(store, series, study, 1)
    store.closing.complete(store.series.get(series), closing(Skip(why)), at(13))


def ended(store: Store, state: JobState, series: str) -> None:
    """A series whose job failed for good or was cancelled."""
    received(store, series)
    store.closing.complete(store.series.get(series), closing(digest=DIGEST), at(14))
    (job,) = store.jobs.list(series_instance_uid=series)
    if state is JobState.CANCELLED:
        store.jobs.cancel(job.id, at(15))
        return
    assert store.jobs.claim("w", at(14), 60, pipeline_digest=DIGEST) is not None
    store.jobs.fail(job.id, "w", code="defect", message="why", detail=None, now=at(15), retry_at=None)


def judge(store: Store, rules: StudyRules = RULES, digest: str = DIGEST, study: str = STUDY) -> Standpoint:
    """Judge the study again, and return where it stands."""
    store.studies.decide(study, study_decision(rules, digest), at(100))
    return stands(store, rules, digest, study)


def stands(store: Store, rules: StudyRules = RULES, digest: str = DIGEST, study: str = STUDY) -> Standpoint:
    (found,) = standpoints(store, [store.studies.get(study)], gate_digest(rules, digest), rules)
    return found


def say(store: Store, kind: DecisionKind, seconds: float = 50, rules: StudyRules = RULES, study: str = STUDY) -> None:
    decide(
        store,
        study,
        kind,
        reason="phantom",
        decided_by="Ann",
        now=at(seconds),
        gate_digest=gate_digest(rules, DIGEST),
        rules=rules,
    )


def export(
    store: Store,
    output: Path,
    rules: StudyRules = RULES,
    digest: str = DIGEST,
    names: Pseudonyms = NAMES,
    **options: Any,
) -> dict[str, Any]:
    """Export to a folder; return the manifest."""
    return export_to(store, output, FolderTarget(store, output, lambda: at(200)), rules, digest, names, **options)


def export_to(
    store: Store,
    work: Path,
    target: Target,
    rules: StudyRules = RULES,
    digest: str = DIGEST,
    names: Pseudonyms = NAMES,
    **options: Any,
) -> dict[str, Any]:
    """Export to a target; return the manifest."""
    manifest = export_studies(
        store,
        work,
        target,
        GateTerms(rules, digest, gate_digest(rules, digest)),
        profile=read_profile(None),
        pseudonyms=names,
        now=lambda: at(200),
        **options,
    )
    return manifest.content


def told(content: dict[str, Any], study: str = STUDY, names: Pseudonyms = NAMES) -> tuple[str, str]:
    """Return outcome and reason of a study in a manifest."""
    (one,) = (one for one in content["studies"] if one["study"] == names.mapped_uid(study))
    return one["outcome"], one["reason"]


def copies(output: Path) -> list[Path]:
    return sorted(output.rglob("*.dcm"))


def copy_of_template(template: Path, folder: Path) -> Path:
    """Return a data directory whose database has its tables already."""
    shutil.copytree(template, folder)
    return folder

"""Nodes with studies that were received, seen by a worker and judged; thresholds stand in for the networks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node import processing
from dicom_node.cleared_datasets.run import make_dataset_of_studies
from dicom_node.datasets.finishing import Options
from dicom_node.datasets.layouts import Layout, MaskMode, Name
from dicom_node.export.profile import read_profile
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import load_rules
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.store import Store
from inference.models import ModelIdentity
from inference.segment import Segmentation
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict, Verdict
from tests.arrivals import complete_quiet, receive
from tests.datasets.conftest import ALTERED, ALTERED_ABOVE, BODY_ABOVE, SHAPE, SPACING_MM, cuboid
from tests.export.clearing import DIGEST, NAMES, NOW, RULES, TERMS
from tests.factories import SyntheticSeries, ct_series, uid_of
from tests.new_store import NewStore

MODELS = tuple(ModelIdentity(role, "threshold", "1", "a" * 64) for role in ("foreground", "anonymized"))
NODE_MODELS: Any = MODELS
OPTIONS = Options((Layout.NNSSL, Layout.NNUNET, Layout.OPENMIND), MaskMode.DOCUMENTED, Name(901, "Node"), 1)
VERDICTS = {
    "defaced": SeriesVerdict.DEFACED,
    "face": SeriesVerdict.FACE_PRESENT,
    "unsure": SeriesVerdict.INDETERMINATE,
}

Edit = Callable[[Dataset], None]


def nothing(_: Dataset) -> None:
    """Edit nothing."""


def study_of(
    name: str,
    verdict: str = "defaced",
    *,
    patient: str = "MRN-1",
    study: str | None = None,
    altered: tuple[slice, ...] = ALTERED,
    edit: Edit = nothing,
) -> SyntheticSeries:
    """A CT of the cuboid with known masks, which a worker will find ``verdict`` in; volumes of two names differ."""

    study_instance_uid = uid_of("study", study or name)

    def edit_all(ds: Dataset, _: int) -> None:
        ds.PatientID, ds.PatientName = patient, "Zyxwvut^Qrstu"
        ds.StudyInstanceUID = study_instance_uid
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesDescription = verdict
        edit(ds)

    size = {"n_slices": SHAPE[0], "rows": SHAPE[1], "columns": SHAPE[2]}
    ramp = 1.0 + sum(map(ord, name)) % 13
    made = ct_series(
        voxels_hu=cuboid(altered=altered, ramp=ramp),
        spacing_mm=(SPACING_MM,) * 3,
        seed=f"cleared-{name}",
        edit=edit_all,
        **size,
    )
    return replace(made, study_instance_uid=study_instance_uid)


def receive_and_look(
    store: Store, monkeypatch: pytest.MonkeyPatch, studies: Iterable[SyntheticSeries], *, digest: str = DIGEST
) -> None:
    """Receive series, and have a worker look at all that is quiet."""
    for series in studies:
        receive(store, series, at=NOW)
    monkeypatch.setattr(processing, "segment", _segment)
    rules = load_rules(None, peer_names=())
    complete_quiet(store, rules, pipeline_digest=digest, quiet_s=-1, now=NOW, deliver_to=())
    settings = WorkerSettings(
        owner="w", pipeline_digest=digest, study_rules=RULES, retry=RetryPolicy(1, 1.0), lease_s=600.0
    )
    worker = Worker(store, partial(processing.process_series, models=NODE_MODELS), settings, clock=lambda: NOW)
    while worker.work_once(threading.Event()):
        pass


def _segment(source: SourceVolume, _models: object, **_: object) -> Segmentation:
    verdict = VERDICTS[str(source.headers[0].SeriesDescription)]
    return Segmentation(
        foreground=source.volume.array > BODY_ABOVE,
        anonymized=source.volume.array > ALTERED_ABOVE,
        verdict=Verdict(verdict, 0.99, ()),
        decided_by={"foreground": "network", "anonymized": "network"},
        models=NODE_MODELS,
        timings_s={},
    )


def make(store: Store, out: Path, **options: Any) -> dict[str, Any]:
    """Write the dataset of a store; return its manifest."""
    return make_dataset_of_studies(
        store,
        out,
        options.pop("terms", TERMS),
        options.pop("options", OPTIONS),
        profile=read_profile(None),
        pseudonyms=options.pop("pseudonyms", NAMES),
        now=lambda: NOW,
        **options,
    )


def outcomes(manifest: dict[str, Any], studies: Sequence[SyntheticSeries]) -> list[str]:
    """Outcomes of studies, in their order."""
    by_copy = {one["study"]: one["outcome"] for one in manifest["studies"]}
    return [by_copy[NAMES.mapped_uid(one.study_instance_uid)] for one in studies]


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened

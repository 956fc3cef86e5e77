"""Heads with and without a face in a store, seen by a worker; a threshold stands in for the networks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, partial

import highdicom as hd
import numpy as np
import pytest
from pydicom.filebase import DicomBytesIO

from dicom_node import processing
from dicom_node.demo.head import cut_face, render_head
from dicom_node.demo.series import DemoSeries, slice_instance
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import load_rules
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.store import Store
from inference.models import ModelIdentity
from inference.segment import Segmentation
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict, Verdict
from tests.arrivals import complete_quiet, dataset_bytes, receive_bytes
from tests.export.clearing import DIGEST, NOW, RULES

MODELS = (ModelIdentity("foreground", "threshold", "1", "a" * 64), ModelIdentity("anonymized", "cut", "1", "b" * 64))


@cache
def rendered(has_face: bool) -> hd.Volume:
    return render_head(seed=1) if has_face else cut_face(rendered(True))


def head(name: str, *, has_face: bool, step: int = 2) -> DemoSeries:
    """A head; with ``step`` 2 every second voxel along each axis, which is enough to see a face."""
    shown = rendered(has_face)
    affine = shown.affine.copy()
    affine[:3, :3] *= step
    coarse = hd.Volume(np.ascontiguousarray(shown.array[::step, ::step, ::step]), affine, coordinate_system="PATIENT")
    return DemoSeries(name, f"MR head {name}", "MR", coarse.to_patient_orientation("FPL"))


def receive_head(store: Store, series: DemoSeries, *, at: datetime = NOW) -> None:
    """Receive a head as a sender would send it."""
    for index in range(series.volume.spatial_shape[0]):
        instance = slice_instance(series, index)
        written = DicomBytesIO()
        instance.save_as(written, enforce_file_format=True)
        receive_bytes(store, dataset_bytes(written.getvalue()), instance, at=at)


def look_at_heads(
    store: Store, monkeypatch: pytest.MonkeyPatch, verdicts: dict[str, SeriesVerdict], *, at: datetime = NOW
) -> int:
    """Have a worker look at all that is quiet; the verdict of a series is that of its description's last word."""
    monkeypatch.setattr(processing, "segment", partial(_segment, verdicts=verdicts))
    later = at + timedelta(seconds=60)
    complete_quiet(store, load_rules(None, peer_names=()), pipeline_digest=DIGEST, quiet_s=1, now=later, deliver_to=())
    settings = WorkerSettings(
        owner="w", pipeline_digest=DIGEST, study_rules=RULES, retry=RetryPolicy(1, 1.0), lease_s=600.0
    )
    worker = Worker(store, partial(processing.process_series, models=None), settings, clock=lambda: later)
    n_jobs = 0
    while worker.work_once(threading.Event()):
        n_jobs += 1
    return n_jobs


def _segment(
    source: SourceVolume,
    _models: object,
    *,
    on_stage: Callable[[str], None] | None = None,
    on_share: Callable[[float], None] | None = None,
    verdicts: dict[str, SeriesVerdict],
) -> Segmentation:
    name = str(source.headers[0].SeriesDescription).split()[-1]
    body = source.volume.array > 60
    anonymized = np.zeros_like(body)
    if name.startswith("cut"):  # the front of the box around the head, where nothing is left
        filled = np.flatnonzero(body.any(axis=(0, 2)))
        anonymized[:, : filled[0] + 4, 10:-10] = True
        anonymized &= ~body
    return Segmentation(
        foreground=body,
        anonymized=anonymized,
        verdict=Verdict(verdicts.get(name, SeriesVerdict.INDETERMINATE), 0.55, ("made up for a test",)),
        decided_by={"foreground": "network", "anonymized": "network"},
        models=MODELS,
        timings_s={"foreground": 1.5},
    )

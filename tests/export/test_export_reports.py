"""A study that leaves takes its SEG and SR along, as a job of the node wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread

from dicom_node import processing
from dicom_node.store import Store
from tests.export.clearing import DIGEST, NAMES, copies, export, outcomes, patient
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.pipeline.test_worker import StubbornClock, queue, work, worker
from tests.threshold import threshold


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


def test_the_sr_leaves_with_its_seg_and_still_refers_to_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "segment", threshold)
    clock = StubbornClock()
    series = ct_series(n_slices=6, rows=24, columns=20, edit=patient)
    queue(store, clock, series, digest=DIGEST)
    assert work(worker(store, clock, pipeline_digest=DIGEST))
    assert outcomes(export(store, tmp_path / "out")) == {NAMES.mapped_uid(series.study_instance_uid): "exported"}
    found = {ds.Modality: ds for ds in map(dcmread, copies(tmp_path / "out"))}
    assert set(found) == {"CT", "SEG", "SR"}
    content = hd.sr.MeasurementReport.from_sequence([found["SR"]])
    (body,) = content.get_volumetric_roi_measurement_groups()
    assert body.referenced_segment.referenced_sop_instance_uid == found["SEG"].SOPInstanceUID
    values = {str(one.name.value) for one in body.get_measurements()}
    assert values == {"118565006"}
    (series_of_sources, series_of_seg) = (
        found["SR"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    )
    assert series_of_sources.SeriesInstanceUID == found["CT"].SeriesInstanceUID
    assert series_of_seg.SeriesInstanceUID == found["SEG"].SeriesInstanceUID

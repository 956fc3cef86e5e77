"""SEG, SR and KOS as dcmjs reads them, the library of viewers that run in a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydicom.uid import ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage

from tests.sr_writer.test_key_objects import RESULTS, SOURCES
from tests.sr_writer.test_key_objects import written as written_key_objects
from tests.sr_writer.test_report import SERIES
from tests.sr_writer.test_report import written as written_report
from tests.sr_writer.writing import masks_on
from tests.viewer.installed import run_script


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By SOP class; of a CT series with 11 x 13 pixels, so that no frame ends with a byte."""
    folder = tmp_path_factory.mktemp("dcmjs")
    segmentation, report = written_report("both")
    assert segmentation is not None
    paths = []
    for written in (segmentation, report, written_key_objects()):
        paths.append(folder / f"{written.sop_instance_uid}.dcm")
        paths[-1].write_bytes(written.part10())
    found = json.loads(run_script("read_results.mjs", *paths, timeout_s=120))
    assert [one["sop_instance_uids"] for one in found] == [[path.stem] * 2 for path in paths]
    assert {str(one["patient_name"]) for one in found} == {"[{'Alphabetic': 'Phantom^Åsa'}]"}
    return {one["sop_class_uid"]: one for one in found}


def test_every_voxel_of_both_segments_is_read(read: dict[str, dict[str, Any]]) -> None:
    seg = read[SegmentationStorage]
    series = SERIES["ct"]
    assert seg["segments"] == ["Foreground", "Anonymized area"]
    read_back = np.zeros((2, *series.voxels.shape), dtype=bool)
    for frame in seg["frames"]:
        index = np.linalg.inv(series.affine) @ [*frame["position"], 1.0]
        assert index[1:3] == pytest.approx(0.0, abs=1e-3)
        pixels = np.array(list(frame["pixels"])) == "1"
        read_back[frame["segment"] - 1, round(index[0])] = pixels.reshape(series.voxels.shape[1:])
    np.testing.assert_array_equal(read_back, np.stack(masks_on(series.voxels.shape)))


def test_the_report_has_its_numbers_and_its_verdict(read: dict[str, dict[str, Any]]) -> None:
    report = read[ComprehensiveSRStorage]
    assert report["title"] == "Imaging Measurement Report"
    items = [tuple(item) for item in report["items"]]
    assert [value for kind, name, value in items if (kind, name) == ("NUM", "Volume")] == [1234.568, 56.7]
    assert ("TEXT", "Comment", "face in view, anonymised area on 93% of its front") in items
    assert ("CODE", "Finding", "Entire body") in items
    segmentation = read[SegmentationStorage]["sop_instance_uids"][0]
    assert [value for kind, name, value in items if name == "Referenced Segment"] == [segmentation] * 2
    assert segmentation in report["evidence"]


def test_the_key_objects_are_listed_and_in_evidence(read: dict[str, dict[str, Any]]) -> None:
    document = read[KeyObjectSelectionDocumentStorage]
    assert document["title"] == "For Research Collection Export"
    expected = [one.sop_instance_uid for one in (*SOURCES, *RESULTS)]
    assert [value for kind, _, value in document["items"] if kind in ("IMAGE", "COMPOSITE")] == expected
    assert sorted(document["evidence"]) == sorted(expected)

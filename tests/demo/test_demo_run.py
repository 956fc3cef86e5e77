"""The demo from start to end, with a real node; tiny models stand in for the reference ones."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.demo.errors import DemoError
from dicom_node.demo.run import run_demo
from dicom_node.demo.series import DemoSeries
from inference.nnunet.errors import ModelFileMissingError
from tests.tiny_models import write_tiny_model


def tiny_models(folder: Path) -> dict[str, Path]:
    """Above 60 is body, above 650 is anonymised, on a coarse grid."""
    return {
        role: write_tiny_model(folder / role, role, above=above, spacing_mm=(8.0, 8.0, 8.0))
        for role, above in (("foreground", 60.0), ("anonymized", 650.0))
    }


@pytest.fixture
def _one_small_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the three, which take seconds to render and to write."""
    volume = hd.Volume(
        np.full((4, 16, 16), -1000, dtype=np.int16),
        np.diag([4.0, 4.0, 4.0, 1.0]),
        coordinate_system="PATIENT",
        frame_of_reference_uid="1.2.3",
    )
    series = DemoSeries("body", "CT chest and abdomen", "CT", volume)
    monkeypatch.setattr("dicom_node.demo.run.render_demo_series", lambda: iter([series]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_three_series_go_in_and_their_segs_come_back(tmp_path: Path) -> None:
    said: list[str] = []

    results = run_demo(
        tmp_path / "out", device="cpu", timeout_s=900.0, say=said.append, models=tiny_models(tmp_path / "models")
    )

    assert [result.title for result in results] == [
        "MR head, face intact",
        "MR head, face cut away",
        "CT chest and abdomen",
    ]
    assert all(result.is_seg_as_reported for result in results)
    for result in results:
        sent = dcmread(next((result.folder / "dicom").iterdir()), stop_before_pixels=True)
        segmentation = dcmread(result.folder / "seg.dcm", stop_before_pixels=True)
        assert segmentation.StudyInstanceUID == sent.StudyInstanceUID
        assert segmentation.FrameOfReferenceUID == sent.FrameOfReferenceUID
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == sent.SeriesInstanceUID
        assert result.report["foreground_ml"] > 100.0
        with Image.open(result.folder / "overlay.png") as overlay:
            assert overlay.format == "PNG"
    assert any("149 instances, each acknowledged" in line for line in said)
    log = (tmp_path / "out" / "node.log").read_text()
    assert "all processes stopped" in log
    assert "Traceback" not in log


def test_a_folder_that_is_no_model_ends_the_demo_before_a_node_is_started(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissingError, match=r"nowhere/model\.yaml is missing"):
        run_demo(
            tmp_path / "out",
            device="cpu",
            timeout_s=60.0,
            say=lambda _: None,
            models={"foreground": tmp_path / "nowhere"},
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_one_small_series")
def test_a_worker_that_cannot_load_its_models_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    plans = models["foreground"] / "plans.json"
    plans.write_bytes(plans.read_bytes() + b"\n")
    with pytest.raises(DemoError, match=r"plans\.json.*SHA-256.*node\.log"):
        run_demo(tmp_path / "out", device="cpu", timeout_s=120.0, say=lambda _: None, models=models)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_one_small_series")
def test_results_that_do_not_come_in_time_are_exit_code_3(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")

    result = CliRunner().invoke(
        app,
        [
            *("demo", "--out", str(tmp_path / "out"), "--device", "cpu", "--timeout", "1"),
            *("--foreground-model", str(models["foreground"]), "--anonymized-model", str(models["anonymized"])),
        ],
    )

    assert result.exit_code == 3
    assert "error: not finished within 1 s; the node's log is" in result.stderr

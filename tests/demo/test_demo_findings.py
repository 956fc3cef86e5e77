"""What the shipped models find in the demonstration's heads: nothing in a face that no tool has touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.demo.series import render_demo_series, write_series


@pytest.mark.slow
def test_a_face_that_no_tool_has_touched_is_no_anonymised_area(tmp_path: Path) -> None:
    head = next(iter(render_demo_series()))
    (tmp_path / "head").mkdir()
    write_series(head, tmp_path / "head")
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "head"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").glob("*/report.json")
    report = json.loads(path.read_text())
    assert report["verdict"] == "face_present"
    assert "anonymised area 0.0 mL" in result.output

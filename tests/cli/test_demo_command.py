"""What the demo says of the files that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.cli.demo_command import files_in_words, finding_in_words, next_steps
from inference.verdict.verdict import SeriesVerdict


def test_a_seg_that_was_not_written_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").touch()
    without = f"{tmp_path}/: dicom/ (sent), overlay.png, report.json; nothing was found, so there is no SEG"
    assert files_in_words(tmp_path) == without
    (tmp_path / "seg.dcm").touch()
    assert files_in_words(tmp_path) == f"{tmp_path}/: dicom/ (sent), seg.dcm and overlay.png (fetched), report.json"


@pytest.mark.parametrize("verdict", list(SeriesVerdict))
def test_a_verdict_is_said_without_underscores(verdict: SeriesVerdict) -> None:
    words = finding_in_words({"verdict": str(verdict), "probability": 0.934})
    assert words == f"{verdict.name.lower().replace('_', ' ')} (0.93)"


@pytest.mark.parametrize(
    ("program", "called"),
    [(".venv/bin/dicom-node", ".venv/bin/dicom-node"), ("/x/dicom_node/cli/__main__.py", "dicom-node")],
)
def test_the_next_commands_are_the_program_as_it_was_called(tmp_path: Path, program: str, called: str) -> None:
    lines = list(next_steps([tmp_path / "head", tmp_path / "defaced"], program=program))
    assert f"{tmp_path}/head/overlay.png {tmp_path}/defaced/overlay.png" in lines[0]
    assert f" {called} segment STUDY_FOLDER -o results" in lines[1]
    assert f" {called} serve -c config/node.yaml" in lines[2]

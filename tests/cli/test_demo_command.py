"""What the demo says of the files that it leaves."""

from __future__ import annotations

from pathlib import Path

from dicom_node.cli.demo_command import files_in_words


def test_a_seg_that_was_not_written_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").touch()
    without = f"{tmp_path}/: dicom/ (sent), overlay.png, report.json; nothing was found, so there is no SEG"
    assert files_in_words(tmp_path) == without
    (tmp_path / "seg.dcm").touch()
    assert files_in_words(tmp_path) == f"{tmp_path}/: dicom/ (sent), seg.dcm and overlay.png (fetched), report.json"

"""The table of DICOMweb requests is about the requests that are there, and the node answers each as PS3.18 asks."""

from __future__ import annotations

from pathlib import Path

from benchmarks.dicomweb_cases import Instances, cases
from benchmarks.dicomweb_table import ask_node

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dicomweb-compatibility.md"
MIN_REQUESTS = 80


def test_the_node_answers_every_request_of_the_table_as_the_standard_says(tmp_path: Path) -> None:
    held = Instances()
    asked = cases(held)
    assert len(asked) >= MIN_REQUESTS
    found = ask_node(tmp_path, held, asked)
    assert {case.name: answer for case, answer in found.items() if answer != case.expected} == {}
    rows = [line.strip("| ").split(" | ")[:3] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    written = [row for row in rows if row[0] not in {"request", "---"}]
    assert written == [[case.name, case.expected, case.expected] for case in asked], "run: make dicomweb-table"

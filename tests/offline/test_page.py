"""The page of an offline run: every volume and failure is in it, and nothing of a name is taken for markup."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from dicom_node.offline.page import render_page

SCRIPT = '<script>alert("1")</script>'


class Reader(HTMLParser):
    """Collects links, sources of images, cells of tables and the number of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[str] = []
        self.cells: list[str] = []
        self.n_scripts = 0
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        if tag == "a":
            self.links.append(str(of["href"]))
        elif tag == "img":
            self.images.append(str(of["src"]))
        elif tag == "script":
            self.n_scripts += 1
        elif tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def volume(name: str, verdict: str = "defaced", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "modality": "MR",
        "verdict": verdict,
        "probability": 0.987,
        "foreground_ml": 4297.04,
        "anonymized_ml": 538.78,
        "timings_s": {"reading": 1.0, "segment foreground": 2.25},
        "input": None,
        **fields,
    }


def page_of(volumes: list[dict[str, Any]], *, failed: tuple = (), not_used: tuple = ()) -> Reader:
    summary = {
        "node_version": "1.0",
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T01:00:00+00:00",
        "models": [{"role": "foreground", "name": "reference", "version": "0.3.0", "sha256": "ab" * 32}],
        "n_volumes": len(volumes),
        "n_failed": len(failed),
        "volumes": volumes,
        "failed": list(failed),
        "not_used": list(not_used),
    }
    reader = Reader()
    reader.feed("".join(render_page(summary)))
    return reader


def test_a_volume_has_its_overlay_verdict_and_numbers() -> None:
    page = page_of([volume("1.2.3"), volume("1.2.4", "face_present", anonymized_ml=0.0)])
    assert page.images == ["1.2.3/overlay.png", "1.2.4/overlay.png"]
    assert "1.2.3/report.json" in page.links
    assert [cell.strip() for cell in page.cells[1:8]] == ["1.2.3", "MR", "defaced", "0.99", "4297.0", "538.8", "3.2"]
    assert "face present" in page.cells


def test_failures_and_what_was_not_used_are_named() -> None:
    failed = ({"name": "1.2.5", "code": "slice-gap", "message": "ask the sender"},)
    not_used = tuple({"name": f"f{n}", "code": "not-dicom", "reason": "no DICOM file"} for n in range(3))
    page = page_of([], failed=failed, not_used=not_used)
    assert page.cells == ["1.2.5", "slice-gap", "ask the sender", "3", "not-dicom", "no DICOM file"]


def test_a_hostile_name_is_text_and_its_links_lead_into_its_folder() -> None:
    name = f'../a b"{SCRIPT}#?%41'
    page = page_of([volume(name, input=SCRIPT)], failed=({"name": SCRIPT, "code": "x", "message": SCRIPT},))
    assert page.n_scripts == 2  # the page's own
    assert name in page.cells[1]
    (source,) = page.images
    assert source.count("/") == 1
    assert unquote(source.split("/")[0]) == name


def test_ten_thousand_volumes_make_a_page_of_a_few_megabytes() -> None:
    page = page_of([volume(f"1.2.{number}") for number in range(10_000)])
    assert len(page.images) == 10_000

"""What the docs say of what is received, run, refused and remarked is what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from inference.errors import SeriesError
from inference.series import errors
from inference.series.rejected import FILE_CODES
from inference.series.stack_choice import StackChoice

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_conformance", DOCS / "make_conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(maker: ModuleType) -> str:
    return str(maker.conformance())


def below(base: type[Exception]) -> set[str]:
    return {one.code for one in base.__subclasses__()} | {code for one in base.__subclasses__() for code in below(one)}


def test_the_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / "conformance.md").read_text(encoding="utf-8") == page, "run: make reference"


def test_every_code_of_a_series_has_a_row(page: str) -> None:
    families = {"unsuitable-object", "nifti", SeriesError.code, errors.StackError.code}
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert below(SeriesError) - families <= rows
    assert set(StackChoice) <= rows


def test_every_code_of_a_file_has_a_row_and_every_row_a_use(page: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (DOCS.parent / "inference" / "series").glob("*.py")]
    assert all(sum(text.count(f'"{code}"') for text in sources) > 1 for code in FILE_CODES)
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert set(FILE_CODES) <= rows


def test_remarks_are_found_with_their_texts(maker: ModuleType) -> None:
    texts = maker.remark_texts()
    assert len(texts) > 15
    assert texts["tilted"].startswith("slices lean by ... degrees (a gantry tilt); put right by whole pixels")
    assert all(len(text.replace("...", "")) > 15 for text in texts.values())


@pytest.mark.parametrize(
    ("sentence", "is_there"),
    [
        ("| JPEG 2000 Image Compression (Lossless Only) | `1.2.840.10008.1.2.4.90` |", True),
        ("| 0xA700 | failure | disk watermark reached", True),
        ("a stack has 2 slices, expected at least 3 | ask the sender whether the series is complete |", True),
        ("not processed", False),  # divided off: the last column says what to do
    ],
)
def test_sentences_come_from_where_they_are_said(page: str, sentence: str, is_there: bool) -> None:
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert (sentence in tables.replace("not processed, because", "")) is is_there

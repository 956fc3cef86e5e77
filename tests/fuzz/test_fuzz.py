"""What the fuzzers found stays found, and a few seconds of new mutations of each kind of input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_what_was_found_once_ends_in_an_answer_or_a_named_error(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_good_input_is_read(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


@st.composite
def mutations(draw: st.DrawFn, name: str) -> bytes:
    """A good input with a few places overwritten, inserted into, or cut out."""
    data = bytearray(draw(st.sampled_from(seeds(name))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        patch = draw(st.one_of(st.binary(max_size=8), st.sampled_from(NASTY)))
        replaced = draw(st.integers(0, 12))
        data[at : at + replaced] = patch
    return bytes(data)


NASTY = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\xdd\xe0",
    b"\xff\xff\xff\x7f",
    b"SQ\0\0",
)


@pytest.mark.parametrize("name", list(TARGETS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_a_damaged_input_ends_in_an_answer_or_a_named_error(name: str, draw: st.DataObject) -> None:
    TARGETS[name](draw.draw(mutations(name)))

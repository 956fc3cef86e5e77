"""Bodies are split the same wherever the network cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.http_intake.errors import MalformedBodyError
from dicom_node.http_intake.multipart_reader import MAX_HEADER_BYTES, MAX_PREAMBLE_BYTES, MultipartReader

CONTENTS = [
    b"",
    b"\r\n",
    b"a\r\n--by",
    b"\r\n--bx\r\n",
    b"--b!",
    b"\r\n--b-",
    b"\r\n-",
    b"x" * 700,
    b"\r\n\r\n--b c\r\n",
]


class Kept:
    """Sinks that keep what they are given."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Mapping[str, str], bytearray]] = []
        self.n_finished = 0

    def begin(self, number: int, fields: Mapping[str, str]) -> Kept:
        self.parts.append((number, fields, bytearray()))
        return self

    def write(self, piece: bytes) -> None:
        self.parts[-1][2].extend(piece)

    def finish(self) -> None:
        self.n_finished += 1


def read(body: bytes, cuts: list[int]) -> Kept:
    kept = Kept()
    reader = MultipartReader(b"b", kept.begin)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        reader.feed(body[begin:end])
    reader.finish()
    return kept


@given(contents=st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=5), cuts=st.lists(st.integers(0, 4000)))
def test_any_cutting_gives_the_same_parts(contents: list[bytes], cuts: list[int]) -> None:
    body = b"preamble\r\n"
    for number, content in enumerate(contents, start=1):
        body += b"--b \t\r\nContent-Type: x/%d;\r\n a=b\r\nX: y:z\r\n\r\n%s\r\n" % (number, content)
    kept = read(body + b"--b--\r\nepilogue --b\r\n", cuts)
    assert [bytes(content) for _, _, content in kept.parts] == contents
    assert [number for number, _, _ in kept.parts] == list(range(1, len(contents) + 1))
    assert kept.parts[-1][1] == {"content-type": f"x/{len(contents)}; a=b", "x": "y:z"}
    assert kept.n_finished == len(contents)


def test_a_part_may_have_no_header() -> None:
    kept = read(b"--b\r\n\r\nhello\r\n--b\r\n\r\n\r\n--b--", [])
    assert [(fields, bytes(content)) for _, fields, content in kept.parts] == [({}, b"hello"), ({}, b"")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--c--",
        b"--b\r\nA: b\r\n\r\nhello",
        b"--b\r\nA: b\r\n\r\nhello\r\n--b\r\n",
        b"--b\r\n" + b"A" * MAX_HEADER_BYTES,
        b"z" * (MAX_PREAMBLE_BYTES + 10),
    ],
)
def test_what_has_no_end_or_no_beginning_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        read(body, [100])

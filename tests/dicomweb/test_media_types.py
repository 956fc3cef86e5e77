"""The Accept header, as clients send it and as an attacker would."""

from __future__ import annotations

import time

import pytest
from starlette.requests import Request

from dicom_node.dicomweb.errors import BadRequestError
from dicom_node.dicomweb.media_types import MAX_ACCEPT_CHARACTERS, MediaRange, accepted_ranges


def request(*accept: str, query: bytes = b"") -> Request:
    headers = [(b"accept", text.encode("latin-1")) for text in accept]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": query})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", [MediaRange("*/*")]),
        ("Text/HTML, application/json;q=0.5", [MediaRange("text/html"), MediaRange("application/json", {"q": "0.5"})]),
        (
            'multipart/related; type="application/dicom"; transfer-syntax=*',
            [MediaRange("multipart/related", {"type": "application/dicom", "transfer-syntax": "*"})],
        ),
        ('a/b ; X = "c, d;e\\"f" ,g/h', [MediaRange("a/b", {"x": 'c, d;e"f'}), MediaRange("g/h")]),
        ("a/b;q=0, c/d;q=0.000, e/f;q=0.001", [MediaRange("e/f", {"q": "0.001"})]),
        (", ,a/b,", [MediaRange("a/b")]),
    ],
)
def test_ranges_are_read_as_rfc_9110_has_them(accept: str, expected: list[MediaRange]) -> None:
    assert list(accepted_ranges(request(accept))) == expected


def test_several_headers_are_one_list_and_the_query_wins_over_them() -> None:
    assert [found.media_type for found in accepted_ranges(request("a/b", "c/d"))] == ["a/b", "c/d"]
    assert [found.media_type for found in accepted_ranges(request("a/b", query=b"accept=c/d"))] == ["c/d"]


@pytest.mark.parametrize(
    "accept",
    [
        '"' * 32_001,  # took 71 s
        '"\\' * 16_000,
        "a" * 32_000 + '"',
        ";a=" * 10_000,
        "; " * 16_000,
        "," * 32_000,
        "a/b;" + "x" * 32_000,
    ],
)
def test_a_header_of_32_kb_is_refused_at_once(accept: str) -> None:
    began_s = time.process_time()
    with pytest.raises(BadRequestError, match="Accept is"):
        accepted_ranges(request(accept))
    with pytest.raises(BadRequestError):
        accepted_ranges(request(query=b"accept=" + accept.encode().replace(b";", b"%3B")))
    assert time.process_time() - began_s < 0.1


@pytest.mark.parametrize("pump", ['"', '\\"', '""', ";a=", "; ", "a", '"\\', ';a="'])
def test_a_header_of_the_greatest_length_takes_no_time(pump: str) -> None:
    accept = (pump * MAX_ACCEPT_CHARACTERS)[:MAX_ACCEPT_CHARACTERS]
    began_s = time.process_time()
    for ending in ("", '"'):
        try:
            accepted_ranges(request((accept + ending)[-MAX_ACCEPT_CHARACTERS:]))
        except BadRequestError:
            continue
    assert time.process_time() - began_s < 0.05


def test_more_ranges_than_any_client_needs_are_refused() -> None:
    assert len(accepted_ranges(request(",".join(["a/b"] * 64)))) == 64
    with pytest.raises(BadRequestError, match="at most 64 media types"):
        accepted_ranges(request(",".join(["a/b"] * 65)))

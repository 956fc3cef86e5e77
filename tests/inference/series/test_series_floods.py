"""Headers with more in them than any scanner writes: bounded memory, bounded time, a volume or a named refusal."""

from __future__ import annotations

import struct
import time
import tracemalloc

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.errors import SeriesError
from inference.series import instances
from inference.series.assemble import assemble_volumes
from inference.series.errors import NestedTooDeeplyError, ObjectTooLargeError, UidMissingError, UnreadableError
from inference.series.instances import read_instance
from part10 import walk
from tests.factories import EncodedInstance, ct_series

MB = 2**20
UNDEFINED = 0xFFFFFFFF
MANY = 60_000  # pydicom needs 77 MB for as many
LITTLE_BYTES = 20 * MB
EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
ITEM_END, SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def sequence(tag: int, items: bytes, *, is_implicit: bool, is_defined: bool, vr: bytes = b"SQ") -> bytes:
    """A sequence element around encoded items."""
    length = len(items) if is_defined else UNDEFINED
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + (b"" if is_implicit else vr + b"\0\0")
    return head + struct.pack("<I", length) + items + (b"" if is_defined else SEQUENCE_END)


def with_element(element: bytes, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> list[EncodedInstance]:
    """A good series of which each instance has the element before its first one of group 0010."""
    patient = b"\x10\x00\x10\x00"
    return [
        EncodedInstance(each.name, each.part10.replace(patient, element + patient, 1))
        for each in ct_series(3, transfer_syntax_uid=transfer_syntax_uid)
    ]


def bounded(series: list[EncodedInstance], *, most_bytes: int = 200 * MB) -> SeriesError | None:
    """Assemble within bounds; the refusal, or none."""
    tracemalloc.start()
    began = time.process_time()
    refusal = None
    try:
        assemble_volumes(series)
    except SeriesError as error:
        refusal = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < most_bytes
    assert time.process_time() - began < 60
    return refusal


@pytest.mark.parametrize("is_implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("is_defined", [False, True], ids=["undefined-length", "defined-length"])
def test_a_private_sequence_of_very_many_items_is_passed_over(is_implicit: bool, is_defined: bool) -> None:
    element = sequence(0x00091001, EMPTY_ITEM * MANY, is_implicit=is_implicit, is_defined=is_defined)
    syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    flooded, *others = with_element(element, syntax)
    whole = [flooded, *ct_series(3, transfer_syntax_uid=syntax)[1:]]
    assert bounded(whole, most_bytes=LITTLE_BYTES) is None
    assert len(others) == 2


def test_a_sequence_of_unknown_vr_is_passed_over_too() -> None:
    element = sequence(0x00091001, EMPTY_ITEM * MANY, is_implicit=False, is_defined=False, vr=b"UN")
    assert bounded([with_element(element)[0], *ct_series(3)[1:]], most_bytes=LITTLE_BYTES) is None


def test_more_elements_in_sequences_than_any_scanner_writes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_NESTED_ELEMENTS", 1000)
    element = sequence(0x00091001, EMPTY_ITEM * 2000, is_implicit=False, is_defined=False)
    with pytest.raises(UnreadableError, match="more than 1000 elements in sequences"):
        assemble_volumes(with_element(element))


@pytest.mark.parametrize("is_defined", [False, True], ids=["undefined-length", "defined-length"])
def test_sequences_in_sequences_without_end_are_refused(is_defined: bool) -> None:
    inner = b""
    for _ in range(100):
        length = len(inner) if is_defined else UNDEFINED
        item = struct.pack("<HHI", 0xFFFE, 0xE000, length) + inner + (b"" if is_defined else ITEM_END)
        inner = sequence(0x00081110, item, is_implicit=False, is_defined=is_defined)
    with pytest.raises(NestedTooDeeplyError):
        assemble_volumes(with_element(inner))


def test_an_unusual_file_with_items_without_end_is_not_unfolded() -> None:
    flooded = with_element(sequence(0x00091001, EMPTY_ITEM * 750_000, is_implicit=False, is_defined=False, vr=b"??"))
    refusal = bounded(flooded)
    assert isinstance(refusal, UnreadableError)
    assert "750000 sequence items" in str(refusal)


def test_a_large_unusual_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "MAX_UNUSUAL_BYTES", 1000)
    headless = [EncodedInstance(each.name, each.part10[132:]) for each in ct_series(3)]
    with pytest.raises(ObjectTooLargeError, match="unusual encoding"):
        assemble_volumes(headless)


def test_a_header_longer_than_the_first_bytes_that_are_read_is_read_on() -> None:
    comment = struct.pack("<HH2sHI", 0x0009, 0x1002, b"OB", 0, 100_000) + bytes(100_000)
    series = with_element(comment)
    (source,) = assemble_volumes(series)
    np.testing.assert_array_equal(source.volume.array, ct_series(3).voxels)
    assert 0x00091002 not in source.headers[0]


@pytest.mark.parametrize("vr", [b"ZZ", b"us", b"\0\0", b"SQ", b"UN", b"OB"])
def test_a_wrong_vr_ends_in_a_volume_or_a_named_refusal(vr: bytes) -> None:
    (first, *others) = ct_series(3)
    begin = first.part10.index(b"\x28\x00\x10\x00US")
    wrong = first.part10[: begin + 4] + vr + first.part10[begin + 6 :]
    try:
        assemble_volumes([EncodedInstance("wrong", wrong), *others])
    except SeriesError as refusal:
        assert refusal.code  # noqa: PT017 - which one depends on what the VR makes of the following bytes


@pytest.mark.parametrize("tag", [b"\x08\x00\x18\x00", b"\x20\x00\x0d\x00", b"\x20\x00\x0e\x00"])
def test_an_empty_uid_is_refused_by_name(tag: bytes) -> None:
    emptied = []
    for each in ct_series(3):
        at = each.part10.index(tag + b"UI") + 6
        n_bytes = int.from_bytes(each.part10[at : at + 2], "little")
        emptied.append(EncodedInstance(each.name, each.part10[:at] + b"\0\0" + each.part10[at + 2 + n_bytes :]))
    with pytest.raises(UidMissingError):
        assemble_volumes(emptied)


def test_a_header_is_the_same_whether_scanned_or_read_by_pydicom() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        (first, *_) = ct_series(3, transfer_syntax_uid=syntax)
        scanned = read_instance(first).header
        read = instances._unusual_instance(first.part10, first).header
        assert scanned == read
        assert scanned.file_meta == read.file_meta
        assert scanned.original_encoding == read.original_encoding
        assert scanned.original_character_set == read.original_character_set

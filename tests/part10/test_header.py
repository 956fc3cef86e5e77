"""Headers of orderly files, read without pydicom, and files that are left to it."""

from __future__ import annotations

import io
from itertools import product

import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from part10 import header, walk
from part10.errors import TooDeepError, TooManyElementsError
from part10.file_meta import file_meta
from part10.header import HEAD_BYTES, Header, is_bulk, read_header
from part10.limits import MAX_HEADER_VALUE_BYTES, MAX_SEQUENCE_DEPTH
from part10.pixel_data import PixelDataLocation, read_pixel_data_location
from tests.part10.encoded import UNDEFINED, delimiter, element, item, sequence

ENCODINGS = {
    (False, "<"): ExplicitVRLittleEndian,
    (True, "<"): ImplicitVRLittleEndian,
    (False, ">"): ExplicitVRBigEndian,
}
ALL = [(is_implicit, order) for is_implicit, order in ENCODINGS]


def part10(dataset: bytes, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    return file_meta(sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=transfer_syntax_uid) + dataset


def read(
    dataset: bytes, transfer_syntax_uid: str = ExplicitVRLittleEndian, *, n_head: int = HEAD_BYTES
) -> Header | None:
    data = part10(dataset, transfer_syntax_uid)
    return read_header(io.BytesIO(data[n_head:]), data[:n_head], len(data))


UID = element(0x00080018, b"UI", b"1.2.3\0")
ROWS = element(0x00280010, b"US", b"\x10\0")
PIXELS = element(0x7FE00010, b"OW", bytes(8))


@pytest.mark.parametrize(("is_implicit", "order"), ALL)
@pytest.mark.parametrize("n_head", [1, 150, 10**6])
def test_every_encoding_is_read_whatever_was_read_before(is_implicit: bool, order: str, n_head: int) -> None:
    how = {"is_implicit": is_implicit, "order": order}
    dataset = element(0x00080018, b"UI", b"1.2.3\0", **how) + element(0x00280010, b"US", b"ab", **how)
    found = read(dataset + element(0x7FE00010, b"OW", bytes(8), **how), ENCODINGS[is_implicit, order], n_head=n_head)
    assert found is not None
    assert {int(tag): raw.value for tag, raw in found.elements.items()} == {0x00080018: b"1.2.3\0", 0x00280010: b"ab"}
    assert (found.is_implicit_vr, found.is_little_endian) == (is_implicit, order == "<")
    assert found.transfer_syntax_uid == ENCODINGS[is_implicit, order]
    begin = len(part10(dataset, ENCODINGS[is_implicit, order])) + (8 if is_implicit else 12)
    assert found.pixel_data == PixelDataLocation(0x7FE00010, "OW", begin, 8)


def test_elements_are_as_pydicom_reads_them() -> None:
    inner = item(UID) + item(UID, is_defined=False)
    dataset = b"".join(
        (
            UID,
            sequence(0x00081140, inner),
            sequence(0x00082112, inner, is_defined=False),
            element(0x00091001, b"UN", b"\1\2"),
            element(0x00280010, b"US", b"\x10\0"),
            element(0x00281201, b"OW", bytes(10)),
        )
    )
    found = read(dataset + PIXELS)
    assert found is not None
    expected = dcmread(io.BytesIO(part10(dataset + PIXELS)), stop_before_pixels=True)
    unread = {int(t): raw for t, raw in found.elements.items() if raw.VR != "SQ"}
    for tag, raw in unread.items():
        theirs = expected.get_item(tag)
        assert isinstance(raw, RawDataElement)
        assert isinstance(theirs, RawDataElement)
        assert raw[:7] == theirs[:7]  # up to the byte order
    assert found.elements[0x00081140].value == found.elements[0x00082112].value == inner
    assert [int(tag) for tag in found.meta] == [0x00020000 + n for n in (0, 1, 2, 3, 0x10, 0x12, 0x13)]


@pytest.mark.parametrize(
    ("tag", "vr", "name"), [(0x7FE00008, b"OF", "OF"), (0x7FE00009, b"OD", "OD"), (0x7FE00010, b"OB", "OB")]
)
@pytest.mark.parametrize("n_bytes", [8, 10**6, UNDEFINED])
def test_pixel_data_are_found_and_not_read(tag: int, vr: bytes, name: str, n_bytes: int) -> None:
    data = part10(UID + element(tag, vr, bytes(8), n_bytes=n_bytes))
    found = read_header(io.BytesIO(), data, len(data))
    assert found is not None
    expected = PixelDataLocation(tag, name, len(data) - 8, None if n_bytes == UNDEFINED else n_bytes)
    assert found.pixel_data == expected
    file = io.BytesIO(data)
    file.seek(len(data) - 20)
    assert read_pixel_data_location(file, is_implicit_vr=False, is_little_endian=True) == expected


@pytest.mark.parametrize(("tag", "name"), [(0x7FE00008, "OF"), (0x7FE00009, "OD"), (0x7FE00010, "OW")])
def test_implicit_pixel_data_have_the_representation_of_their_tag(tag: int, name: str) -> None:
    file = io.BytesIO(b"xx" + element(tag, b"", bytes(8), is_implicit=True))
    file.seek(2)
    found = read_pixel_data_location(file, is_implicit_vr=True, is_little_endian=True)
    assert found == PixelDataLocation(tag, name, 10, 8)


def test_where_no_pixel_data_begin_nothing_is_found() -> None:
    no_value = read_pixel_data_location(io.BytesIO(PIXELS[:12]), is_implicit_vr=False, is_little_endian=True)
    assert no_value == PixelDataLocation(0x7FE00010, "OW", 12, 8)
    for data in (b"", UID, PIXELS[:11]):
        assert read_pixel_data_location(io.BytesIO(data), is_implicit_vr=False, is_little_endian=True) is None
    found = read(UID)
    assert found is not None
    assert found.pixel_data is None


def test_a_header_longer_than_what_was_read_is_read_on() -> None:
    bulk = element(0x00281201, b"OW", bytes(100_000))
    for n_head in (200, HEAD_BYTES, 90_000):
        found = read(UID + bulk + ROWS + PIXELS, n_head=n_head)
        assert found is None  # the tags do not ascend
        found = read(UID + ROWS + bulk + PIXELS, n_head=n_head)
        assert found is not None
        assert len(found.elements[0x00281201].value) == 100_000
        assert found.pixel_data is not None


def test_a_file_shorter_than_its_size_said_is_left_to_pydicom() -> None:
    data = part10(UID + ROWS)
    assert read_header(io.BytesIO(), data[:-1], len(data)) is None
    assert read_header(io.BytesIO(), data[:-1], len(data) - 1) is None
    assert read_header(io.BytesIO(), data[:100], len(data)) is None


@pytest.mark.parametrize(
    "dataset",
    [
        ROWS + UID,  # tags descend
        UID + UID,  # the same twice
        element(0x00020010, b"UI", b"1.2\0") + UID,  # file meta information in the dataset
        element(0x00070010, b"LO", b"ab") + UID,  # before the first group of a dataset
        element(0x00080018, b"ZZ", b"1.2.3\0"),  # no such value representation
        element(0x00080018, b"ui", b"1.2.3\0"),
        element(0x00080018, b"OB", b"", n_bytes=UNDEFINED) + item(b"ab") + delimiter(0xFFFEE0DD),
        element(0x00080018, b"UI", b"1.2.3\0", n_bytes=60),  # beyond the end
        UID + b"\x28\0\x10",
        sequence(0x00081140, UID),  # no item in it
        sequence(0x00081140, item(UID)[:-1]),  # an item longer than the sequence
        sequence(0x00081140, item(element(0x00080018, b"UI", b"1.2.3\0", n_bytes=7))),  # longer than the item
        sequence(0x00081140, item(element(0x00080018, b"OB", b"", n_bytes=UNDEFINED))),
        sequence(0x00081140, item(UID, is_defined=False)[:-8], is_defined=False),  # without its delimiter
        sequence(0x00081140, item(UID), is_defined=False)[:-8],
    ],
    ids=range(15),
)
def test_what_is_not_as_the_standard_has_it_is_left_to_pydicom(dataset: bytes) -> None:
    assert read(dataset) is None


def test_file_meta_information_that_is_not_in_order_is_left_to_pydicom() -> None:
    data = part10(UID)
    assert read_header(io.BytesIO(), data, len(data)) is not None
    for changed in (
        data[:128] + b"DCIM" + data[132:],
        data[:140] + (int.from_bytes(data[140:144], "little") - 2).to_bytes(4, "little") + data[144:],
        data[:140] + (int.from_bytes(data[140:144], "little") + len(UID) + 1).to_bytes(4, "little") + data[144:],
        data[:140] + (int.from_bytes(data[140:144], "little") + len(UID)).to_bytes(4, "little") + data[144:],
        part10(UID, DeflatedExplicitVRLittleEndian),
        part10(UID, "1.2.840.113619.5.2"),  # private, of General Electric: implicit VR, with big endian pixels
        part10(UID, "1.2.840.10008.1.1"),  # a SOP class
        part10(UID, ""),
        part10(UID, ImplicitVRLittleEndian),  # but the dataset is explicit
    ):
        assert read_header(io.BytesIO(), changed, len(changed)) is None
    assert read(UID + PIXELS, JPEG2000Lossless) is not None


@pytest.mark.parametrize(("is_implicit", "order"), ALL)
def test_sequences_inside_each_other_have_a_bound(is_implicit: bool, order: str) -> None:
    how = {"is_implicit": is_implicit, "order": order}
    for is_defined, vr in product([False, True], [b"SQ", b"UN"]):
        for n_levels, is_refused in ((MAX_SEQUENCE_DEPTH, False), (MAX_SEQUENCE_DEPTH + 1, True)):
            # What is in a value of UN is implicit, and has no value representation of its own.
            inside = {"is_implicit": is_implicit or vr == b"UN", "order": order}
            nested = b""
            for level in range(n_levels):
                of_level = how if level == n_levels - 1 else inside
                nested = sequence(0x00091001, item(nested, is_defined=is_defined, order=order),
                                  vr=vr, is_defined=is_defined, **of_level)  # fmt: skip
            if is_refused:
                with pytest.raises(TooDeepError, match=f"more than {MAX_SEQUENCE_DEPTH} levels"):
                    read(nested, ENCODINGS[is_implicit, order])
            else:
                assert read(nested, ENCODINGS[is_implicit, order]) is not None


@pytest.mark.parametrize(("is_implicit", "order"), ALL)
@pytest.mark.parametrize("is_defined", [False, True])
def test_elements_in_items_are_no_sequences_unless_they_look_so(
    is_implicit: bool, order: str, is_defined: bool
) -> None:
    how = {"is_implicit": is_implicit, "order": order}
    item_bytes = walk.ITEM_BYTES[order]
    inner = b"".join(
        (
            element(0x00080018, b"UI", b"1.2.3\0", **how),
            element(0x00090010, b"UN", b"abcdefgh", **how),
            element(0x00091001, b"UN", item_bytes + b"abc", **how),  # too short for an item
            element(0x00091002, b"UN", b"", **how),
        )
    )
    if not is_implicit:
        inner += element(0x00091003, b"OB", item_bytes + b"abcdefgh", **how)
    items = item(inner + sequence(0x00401001, b"", **how), is_defined=is_defined, order=order)
    found = read(sequence(0x00081140, items, is_defined=is_defined, **how), ENCODINGS[is_implicit, order])
    assert found is not None
    assert found.elements[0x00081140].value == items


def test_a_group_length_as_older_files_have_it_is_an_element_like_others() -> None:
    found = read(element(0x00080000, b"UL", len(UID).to_bytes(4, "little")) + UID)
    assert found is not None
    assert [int(tag) for tag in found.elements] == [0x00080000, 0x00080018]


def test_any_beginning_of_a_file_is_read_or_left_to_pydicom() -> None:
    inner = item(sequence(0x00081140, item(UID), is_defined=False), is_defined=False)
    data = part10(UID + sequence(0x00081140, inner, is_defined=False) + ROWS)
    n_read = sum(read_header(io.BytesIO(), data[:n], n) is not None for n in range(len(data) + 1))
    assert n_read == 4  # up to each element, and all


def test_a_dataset_in_explicit_vr_is_not_taken_for_implicit() -> None:
    """Though the VR and the length of its one element, read as a length, are just as long as the file."""
    n_bytes = int.from_bytes(b"UI\6\0", "little")
    explicit = UID + bytes(n_bytes - 6)
    assert read(explicit, ImplicitVRLittleEndian, n_head=10**6) is None
    implicit = element(0x00080018, b"", bytes(n_bytes), is_implicit=True)
    assert len(implicit) == len(explicit)


def test_elements_and_what_is_nested_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_ELEMENTS", 7)  # file meta information has seven
    seven = b"".join(element(0x00090010 + n, b"LO", b"") for n in range(7))
    assert read(seven) is not None
    with pytest.raises(TooManyElementsError, match="more than 7 elements before the pixel data"):
        read(seven + ROWS)
    # Counted are the two items, the element of the first, and the ends of both items and of the sequence.
    two_items = item(ROWS) + item(b"")
    two_sequences = sequence(0x00081140, two_items) + sequence(0x00081150, two_items)
    monkeypatch.setattr(walk, "MAX_NESTED_ELEMENTS", 12)
    assert read(two_sequences) is not None
    monkeypatch.setattr(walk, "MAX_NESTED_ELEMENTS", 11)
    with pytest.raises(TooManyElementsError, match="more than 11 elements in sequences"):
        read(two_sequences)


def test_bytes_that_look_like_a_sequence_and_are_none_are_kept() -> None:
    values = (b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe0\xff\0\0\0", item(b"abcdefgh")[:-1] + b"\0\0")
    for value in values:
        found = read(element(0x00091001, b"UN", value) + ROWS)
        assert found is not None
        assert found.elements[0x00091001].value == value
        assert read(element(0x00091001, b"OB", value) + ROWS) is not None


@pytest.mark.parametrize(
    ("tag", "n_bytes", "expected"),
    [
        (0x7FE00010, 0, True),
        (0x7FE10010, MAX_HEADER_VALUE_BYTES, False),
        (0xFFFCFFFC, 0, True),
        (0x60003000, 0, True),
        (0x60FE3000, 0, True),
        (0x61003000, 0, False),
        (0x60003001, 10**6, False),
        (0x00091001, MAX_HEADER_VALUE_BYTES, False),
        (0x00091001, MAX_HEADER_VALUE_BYTES + 1, True),
        (0x00081140, 10**7, False),
    ],
)
def test_bulk_is_pixels_overlays_padding_and_large_private_values(tag: int, n_bytes: int, expected: bool) -> None:
    assert is_bulk(tag, n_bytes) is expected


def test_bulk_stays_out_of_headers() -> None:
    small, large = MAX_HEADER_VALUE_BYTES, MAX_HEADER_VALUE_BYTES + 2
    dataset = b"".join(
        (
            element(0x00091001, b"OB", bytes(small)),
            element(0x00091002, b"OB", bytes(large)),
            element(0x00281201, b"OW", bytes(large)),
            element(0x60000010, b"US", b"\x10\0"),
            element(0x60003000, b"OW", bytes(8)),
        )
    )
    found = read(dataset + PIXELS)
    assert found is not None
    assert [int(tag) for tag in found.elements] == [0x00091001, 0x00281201, 0x60000010]


def test_a_transfer_syntax_that_is_no_uid_is_left_to_others_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    whole = part10(UID + ROWS)
    damaged = whole.replace(str(ExplicitVRLittleEndian).encode(), b"\0\0\0.840.10008.1.2.1")
    assert damaged != whole
    assert read_header(io.BytesIO(), damaged, len(damaged)) is None
    assert caplog.text == ""

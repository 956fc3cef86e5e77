"""Elements that the index wants, found among bytes of every encoding and of none."""

from __future__ import annotations

import struct
from itertools import product

import pytest

from part10.errors import CutShortError, NotADatasetError, TooManyElementsError
from part10.limits import MAX_ELEMENTS
from part10.select import Selection, select_elements
from tests.part10.encoded import LONG, UNDEFINED, delimiter, element, item, sequence

WANTED = (0x00080018, 0x00100010, 0x00200013)
LAST = 0x00200013
UID = element(0x00080018, b"UI", b"1.2.3\0")
NUMBER = element(0x00200013, b"IS", b"42")
ENCODINGS = list(product([False, True], "<>"))


def select(encoded: bytes, *, is_implicit: bool = False, order: str = "<") -> Selection:
    return select_elements(encoded, WANTED, LAST, is_implicit_vr=is_implicit, is_little_endian=order == "<")


@pytest.mark.parametrize(("is_implicit", "order"), ENCODINGS)
@pytest.mark.parametrize(("is_sequence_defined", "is_item_defined"), list(product([False, True], repeat=2)))
def test_sequences_are_passed_over_whatever_is_in_them(
    is_implicit: bool, order: str, is_sequence_defined: bool, is_item_defined: bool
) -> None:
    how = {"is_implicit": is_implicit, "order": order}
    inner = element(0x00080018, b"UI", b"9.9\0", **how) + element(0x00080019, b"OB", b"\1\2\3\4", **how)
    for _ in range(3):
        items = 2 * item(inner, is_defined=is_item_defined, order=order)
        inner = sequence(0x00081140, items, is_defined=is_sequence_defined, **how)
    encoded = element(0x00080018, b"UI", b"1.2.3\0", **how) + inner + element(0x00200013, b"IS", b"42", **how)
    expected = {0x00080018: b"1.2.3\0", 0x00200013: b"42"}
    assert select(encoded, **how) == Selection(expected, is_complete=True)


def test_the_last_wanted_element_is_read_and_nothing_after_it() -> None:
    hostile = element(0x00200014, b"IS", b"", n_bytes=0xFFF0) + b"\xff" * 30
    assert select(UID + NUMBER + hostile) == Selection({0x00080018: b"1.2.3\0", 0x00200013: b"42"}, is_complete=True)
    before = element(0x00200012, b"IS", b"1 ")
    assert select(UID + before + NUMBER).values[0x00200013] == b"42"


def test_bytes_that_end_early_say_whether_a_wanted_element_may_be_missing() -> None:
    assert select(b"") == Selection({}, is_complete=True)
    assert select(UID) == Selection({0x00080018: b"1.2.3\0"}, is_complete=True)
    unwanted = element(0x00090010, b"LO", b"", n_bytes=10)
    assert select(UID + unwanted + b"12345") == Selection({0x00080018: b"1.2.3\0"}, is_complete=False)
    with pytest.raises(CutShortError, match="element 00200013 of 2 bytes at 22 in 23"):
        select(UID + NUMBER[:-1])


@pytest.mark.parametrize("n_kept", range(1, 8))
def test_a_head_that_is_cut_is_named(n_kept: int) -> None:
    with pytest.raises(CutShortError, match=f"element at 14 in {14 + n_kept} bytes"):
        select(UID + NUMBER[:n_kept])
    implicit = element(0x00080018, b"", b"1.2.3\0", is_implicit=True)
    with pytest.raises(CutShortError, match=f"element at 14 in {14 + n_kept} bytes"):
        select(implicit + element(0x00200013, b"", b"42", is_implicit=True)[:n_kept], is_implicit=True)


@pytest.mark.parametrize("vr", LONG)
def test_long_value_representations_have_a_length_of_four_bytes(vr: bytes) -> None:
    private = element(0x00090010, vr, b"x" * 70_000)
    assert select(UID + private + NUMBER).values[0x00200013] == b"42"
    for n_kept in (8, 9, 11):
        with pytest.raises(CutShortError, match="element at 14"):
            select(UID + private[:n_kept])


def test_elements_without_value_representation_among_others_are_read() -> None:
    mixed = element(0x00090010, b"", b"abcd", is_implicit=True)
    assert select(UID + mixed + NUMBER).values[0x00200013] == b"42"
    unknown_short = element(0x00090010, b"ZZ", b"abcd")
    assert select(UID + unknown_short + NUMBER).values[0x00200013] == b"42"
    for not_capitals in (b"us", b"U1", b"U "):
        # Its length is what the four bytes say that would be VR and length.
        head = struct.pack("<HH", 0x0009, 0x0010) + not_capitals + b"\0\0"
        n_bytes = int.from_bytes(not_capitals, "little")
        assert select(UID + head + bytes(n_bytes) + NUMBER).values[0x00200013] == b"42"


@pytest.mark.parametrize(("vr", "is_implicit"), [(b"", True), (b"ZZ", False), (b"UN", False)])
def test_a_wanted_element_is_found_whatever_its_value_representation(vr: bytes, is_implicit: bool) -> None:
    name = element(0x00100010, vr, b"Doe^Jane", is_implicit=is_implicit)
    assert select(UID + name + NUMBER).values == {0x00080018: b"1.2.3\0", 0x00100010: b"Doe^Jane", LAST: b"42"}


def test_any_beginning_of_a_dataset_is_read_or_cut() -> None:
    inner = item(sequence(0x00081140, item(UID), is_defined=False), is_defined=False)
    encoded = UID + sequence(0x00081140, inner, is_defined=False) + NUMBER
    n_complete = 0
    for n_bytes in range(len(encoded)):
        try:
            n_complete += select(encoded[:n_bytes]).is_complete
        except CutShortError:
            continue
    assert n_complete == 3  # nothing, up to the sequence, up to the number


def test_what_is_in_a_sequence_of_unknown_representation_is_implicit() -> None:
    inner = item(element(0x00081155, b"", b"1.2\0", is_implicit=True))
    for vr in (b"UN", b"SQ"):
        nested = inner if vr == b"UN" else item(element(0x00081155, b"UI", b"1.2\0"))
        outer = sequence(0x00081140, nested, vr=vr, is_defined=False)
        assert select(UID + outer + NUMBER).values[0x00200013] == b"42"
    # Its length reads as the VR UI with a length of zero, if it is taken for explicit VR.
    value = bytes(int.from_bytes(b"UI\0\0", "little"))
    undefined = item(element(0x00081155, b"", value, is_implicit=True), is_defined=False)
    unknown = sequence(0x00081140, undefined, vr=b"UN", is_defined=False)
    nested = sequence(0x00081140, item(unknown, is_defined=False), is_defined=False)
    for outer in (unknown, nested):
        assert select(UID + outer + NUMBER).values[0x00200013] == b"42"


def test_an_undefined_length_of_any_representation_ends_at_its_delimiter() -> None:
    fragments = item(b"\xff\xd8\xff\xd9")
    assert select(UID + sequence(0x00090010, fragments, vr=b"OB", is_defined=False) + NUMBER).values[LAST] == b"42"
    inner = item(sequence(0x00090010, fragments, vr=b"OB", is_defined=False), is_defined=False)
    assert select(UID + sequence(0x00081140, inner, is_defined=False) + NUMBER).values[LAST] == b"42"


def test_what_is_no_item_in_a_sequence_is_refused() -> None:
    opened = element(0x00081140, b"SQ", b"", n_bytes=UNDEFINED)
    with pytest.raises(NotADatasetError, match="00080018 at 26 where an item was expected"):
        select(UID + opened + UID)
    with pytest.raises(NotADatasetError, match="FFFEE00D at 26 where an item was expected"):
        select(UID + opened + delimiter(0xFFFEE00D))
    with pytest.raises(CutShortError):
        select(UID + opened + delimiter(0xFFFEE000, n_bytes=UNDEFINED) + delimiter(0xFFFEE00D))


def test_more_elements_than_any_header_has_are_refused() -> None:
    many = element(0x00090010, b"LO", b"") * (MAX_ELEMENTS - 2)
    assert select(UID + many + NUMBER[:0]).values == {0x00080018: b"1.2.3\0"}
    with pytest.raises(TooManyElementsError, match=f"more than {MAX_ELEMENTS} elements up to 00090010"):
        select(UID + many + 2 * element(0x00090010, b"LO", b""))


def test_nesting_is_no_recursion() -> None:
    deep = (element(0x00081140, b"SQ", b"", n_bytes=UNDEFINED) + delimiter(0xFFFEE000, n_bytes=UNDEFINED)) * 20_000
    closed = (delimiter(0xFFFEE00D) + delimiter(0xFFFEE0DD)) * 20_000
    assert select(UID + deep + closed + NUMBER).values[LAST] == b"42"

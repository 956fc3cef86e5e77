"""The encoding of a dataset is found from its bytes, as pydicom wrote them."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from part10.encoding import Encoding, OtherEncodingError, find_encoding, true_transfer_syntax
from part10.errors import Part10Error

GE = "1.2.840.113619.5.2"
PHILIPS = "1.3.46.670589.33.1.4.1"
FUTURE = "1.2.840.10008.1.2.4.999"
IMPLICIT, EXPLICIT, BIG_ENDIAN = Encoding(True, True), Encoding(False, True), Encoding(False, False)
DEFLATED = Encoding(False, True, True)


def dataset(*, first: str = "character set", is_encapsulated: bool = False, has_icon: bool = False) -> Dataset:
    ds = Dataset()
    if first == "character set":
        ds.SpecificCharacterSet = "ISO_IR 100"
    elif first == "image type":
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
    elif first == "group length":
        ds.add_new(0x00080000, "UL", 100)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "2.25.1"
    ds.TextValue = "A" * 0x4955  # its length reads as the VR "UI"
    if has_icon:
        icon = Dataset()
        icon.PixelData = bytes(128)
        icon["PixelData"].VR = "OW"
        ds.IconImageSequence = Sequence([icon])
    ds.Rows = ds.Columns = 8
    ds.PixelData = encapsulate([bytes(100)]) if is_encapsulated else bytes(128)
    ds["PixelData"].VR = "OB" if is_encapsulated else "OW"
    ds["PixelData"].is_undefined_length = is_encapsulated
    return ds


def encoded(ds: Dataset, encoding: Encoding) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = encoding.is_implicit_vr, encoding.is_little_endian
    write_dataset(buffer, ds)
    written = bytes(buffer.getvalue())
    if encoding.is_deflated:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        written = packer.compress(written) + packer.flush()
    return written


@pytest.mark.parametrize("first", ["character set", "image type", "group length", "class"])
@pytest.mark.parametrize("encoding", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_the_first_element_shows_the_encoding(first: str, encoding: Encoding) -> None:
    assert find_encoding(encoded(dataset(first=first), encoding)) == encoding


@pytest.mark.parametrize("head", [b"", b"\x08\x00", bytes(4), b"\xff" * 64, b"no dataset at all", bytes(128) + b"DICM"])
def test_what_is_no_dataset_has_no_encoding(head: bytes) -> None:
    assert find_encoding(head) in (None, IMPLICIT)  # zeros can be an element (0000,0000) without a value
    assert true_transfer_syntax(head, str(ExplicitVRLittleEndian))[0] in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )


@pytest.mark.parametrize(
    ("declared", "encoding", "true"),
    [
        (ExplicitVRLittleEndian, EXPLICIT, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, IMPLICIT, ImplicitVRLittleEndian),
        (ExplicitVRLittleEndian, BIG_ENDIAN, ExplicitVRBigEndian),
        (ExplicitVRLittleEndian, DEFLATED, DeflatedExplicitVRLittleEndian),
        (ImplicitVRLittleEndian, EXPLICIT, ExplicitVRLittleEndian),
        (ImplicitVRLittleEndian, BIG_ENDIAN, ExplicitVRBigEndian),
        (ExplicitVRBigEndian, EXPLICIT, ExplicitVRLittleEndian),
        (ExplicitVRBigEndian, IMPLICIT, ImplicitVRLittleEndian),
        (DeflatedExplicitVRLittleEndian, DEFLATED, DeflatedExplicitVRLittleEndian),
        (DeflatedExplicitVRLittleEndian, EXPLICIT, ExplicitVRLittleEndian),
        (DeflatedExplicitVRLittleEndian, IMPLICIT, ImplicitVRLittleEndian),
        (JPEGBaseline8Bit, EXPLICIT, ExplicitVRLittleEndian),  # not compressed after all
        (JPEGLSLossless, IMPLICIT, ImplicitVRLittleEndian),
        (GE, IMPLICIT, GE),
        (GE, EXPLICIT, GE),
        (PHILIPS, IMPLICIT, PHILIPS),
        (FUTURE, EXPLICIT, FUTURE),
    ],
)
def test_uncompressed_bytes_have_the_transfer_syntax_that_they_are_in(
    declared: str, encoding: Encoding, true: str
) -> None:
    assert true_transfer_syntax(encoded(dataset(), encoding), str(declared)) == (true, encoding)


@pytest.mark.parametrize("has_icon", [False, True])
@pytest.mark.parametrize("declared", [JPEGBaseline8Bit, JPEGLSLossless, RLELossless, GE, FUTURE])
def test_compressed_bytes_keep_the_transfer_syntax_that_names_the_compression(declared: str, has_icon: bool) -> None:
    head = encoded(dataset(is_encapsulated=True, has_icon=has_icon), EXPLICIT)
    assert true_transfer_syntax(head, str(declared)) == (declared, EXPLICIT)


@pytest.mark.parametrize(
    ("declared", "encoding", "message"),
    [
        (ExplicitVRLittleEndian, EXPLICIT, "compressed pixel data, but its transfer syntax is Explicit VR Little"),
        (ImplicitVRLittleEndian, EXPLICIT, "compressed pixel data, but its transfer syntax is Implicit VR Little"),
        (ExplicitVRLittleEndian, IMPLICIT, "compressed pixel data"),
        (JPEGLSLossless, IMPLICIT, "not in explicit VR little endian, but its transfer syntax is JPEG-LS"),
    ],
)
def test_what_no_transfer_syntax_describes_is_named(declared: str, encoding: Encoding, message: str) -> None:
    with pytest.raises(OtherEncodingError, match=message):
        true_transfer_syntax(encoded(dataset(is_encapsulated=True), encoding), str(declared))


def test_implicit_big_endian_is_in_no_transfer_syntax() -> None:
    with pytest.raises(
        OtherEncodingError, match="implicit VR big endian, but its transfer syntax is Explicit VR Little"
    ):
        true_transfer_syntax(encoded(dataset(), Encoding(True, False)), str(ExplicitVRLittleEndian))


def test_compressed_pixel_data_are_in_no_big_endian_transfer_syntax() -> None:
    ds = dataset()
    del ds.PixelData
    with pytest.raises(OtherEncodingError, match="not in explicit VR little endian"):
        true_transfer_syntax(encoded(ds, BIG_ENDIAN), str(JPEGLSLossless))


def test_pixel_data_beyond_the_head_decide_nothing() -> None:
    head = encoded(dataset(is_encapsulated=True), EXPLICIT)
    cut = head[: head.index(b"\xe0\x7f\x10\x00")]
    assert true_transfer_syntax(cut, str(ExplicitVRLittleEndian))[0] == ExplicitVRLittleEndian


ENDS = [
    encoded(dataset(is_encapsulated=is_encapsulated), encoding)[-400:]
    for encoding, is_encapsulated in ((IMPLICIT, False), (EXPLICIT, False), (EXPLICIT, True), (BIG_ENDIAN, False))
]


def ending(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes from anywhere on, with others appended."""
    return st.tuples(st.integers(0, 400), st.binary(max_size=9)).map(lambda drawn: whole[drawn[0] :] + drawn[1])


@settings(max_examples=300, deadline=None)
@given(
    head=st.one_of(st.binary(max_size=300), st.sampled_from(ENDS).flatmap(ending)),
    declared=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless, GE, "", "1.2"]),
)
def test_any_bytes_have_a_transfer_syntax_or_a_named_error(head: bytes, declared: str) -> None:
    try:
        uid, _ = true_transfer_syntax(head, str(declared))
    except Part10Error:
        return
    assert uid == declared or uid.startswith("1.2.840.10008.1.2")

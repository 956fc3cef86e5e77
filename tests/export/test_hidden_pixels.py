"""Pixel Data that hold more than pixels stay: drawings in unused bits, bytes after the last pixel, faces in icons."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from tests.export.plants import encoded, hosts


def source() -> Dataset:
    ds = hosts()["ct"]
    ds.PatientID, ds.PatientName = "MRN-481516", "Zyxwvut^Qrstu"
    return ds


def copied(ds: Dataset, folder: Path, *, is_face_gone: bool = False) -> Dataset:
    cleaner = Cleaner(read_profile(None), Pseudonyms("p", bytes(range(32))))
    written = write_copy(BytesIO(encoded(ds)), folder, cleaner, is_face_gone=is_face_gone)
    return dcmread(folder / written.relative_path)


def drawn(ds: Dataset, word: int, *, stored: int = 12, high: int = 11, background: int = 0) -> Dataset:
    """Air in half of the image, tissue in the other, and a few pixels of text."""
    words = np.full(ds.Rows * ds.Columns, background, dtype="<u2")
    words[words.size // 2 :] = (np.arange(words.size - words.size // 2) % 1000) << (high - stored + 1)
    words[3:9] |= np.uint16(word)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = stored, high, 0
    ds.PixelData = words.tobytes()
    return ds


@pytest.mark.parametrize(
    "drawing",
    [
        {"word": 0x8000},  # on air: every drawn pixel has the same value, the highest of the image
        {"word": 0xF000},  # looks like the sign of a negative value, but pixels have none
        {"word": 0x0003, "high": 15},  # pixels to the left, text to the right of them
        {"word": 0x1000, "background": 40},
    ],
)
def test_text_in_unused_bits_keeps_an_image_in(drawing: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="neither sign nor padding"):
        copied(drawn(source(), **drawing), tmp_path)


def test_text_in_unused_bits_of_signed_pixels_keeps_an_image_in(tmp_path: Path) -> None:
    ds = drawn(source(), 0xF000)
    ds.PixelRepresentation = 1
    with pytest.raises(NotExportableError, match="neither sign nor padding"):
        copied(ds, tmp_path)


def test_signs_and_declared_padding_in_unused_bits_are_no_drawing(tmp_path: Path) -> None:
    ds = source()
    values = np.full(ds.Rows * ds.Columns, -1000, dtype="<i2")  # extended into the unused bits
    values[:50] = -2048
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PixelData = 12, 11, 1, values.tobytes()
    assert copied(ds, tmp_path / "signed").PixelData == ds.PixelData
    padded = drawn(source(), 0x8000)
    padded.add_new(0x00280120, "US", 0x8000)
    assert copied(padded, tmp_path / "padded").PixelData == padded.PixelData


def test_an_overlay_group_that_names_a_bit_keeps_an_image_in_even_with_overlay_data(tmp_path: Path) -> None:
    ds = source()
    ds.add_new(0x60000102, "US", 12)
    ds.add_new(0x60003000, "OW", bytes(2))
    with pytest.raises(NotExportableError, match="overlay group 6000"):
        copied(ds, tmp_path)


def test_bytes_after_the_last_pixel_keep_an_image_in_and_zeros_do_not(tmp_path: Path) -> None:
    ds = source()
    pixels = ds.PixelData
    ds.PixelData = pixels + b"Somebody^Else 1931"
    with pytest.raises(NotExportableError, match="18 bytes follow the last pixel"):
        copied(ds, tmp_path)
    ds.PixelData = pixels + bytes(64)
    assert copied(ds, tmp_path).PixelData == ds.PixelData


def test_pixels_in_an_item_are_removed_since_a_thumbnail_shows_a_face(tmp_path: Path) -> None:
    ds = source()
    icon = Dataset()
    icon.CodeValue, icon.CodingSchemeDesignator, icon.CodeMeaning = "69536005", "SCT", "Head"
    icon.add_new(0x7FE00010, "OW", b"thumbnail " * 8)
    ds.AnatomicRegionSequence = [icon]
    ds.IconImageSequence = [icon]
    copy = copied(ds, tmp_path)
    assert "IconImageSequence" not in copy
    assert "PixelData" not in copy.AnatomicRegionSequence[0]
    assert copy.PixelData == ds.PixelData


def test_only_a_verdict_or_a_person_says_that_the_face_is_gone_not_the_source(tmp_path: Path) -> None:
    ds = source()
    claim = Dataset()
    claim.CodeValue, claim.CodingSchemeDesignator, claim.CodeMeaning = "113102", "DCM", "Clean Recognizable"
    ds.RecognizableVisualFeatures, ds.DeidentificationMethodCodeSequence = "NO", [claim]
    copy = copied(ds, tmp_path / "claimed")
    assert "RecognizableVisualFeatures" not in copy
    assert "113102" not in [item.CodeValue for item in copy.DeidentificationMethodCodeSequence]
    seen = copied(ds, tmp_path / "seen", is_face_gone=True)
    assert seen.RecognizableVisualFeatures == "NO"
    assert "113102" in [item.CodeValue for item in seen.DeidentificationMethodCodeSequence]
    ds.RecognizableVisualFeatures = "YES"
    assert copied(ds, tmp_path / "yes").RecognizableVisualFeatures == "YES"

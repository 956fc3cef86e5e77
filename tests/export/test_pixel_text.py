"""Names are found in Pixel Data where text can be, and four letters in compressed pixels are no name."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from dicom_node.export import admission
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from tests.export.plants import encoded
from tests.factories import ct_series


def compressed(syntax: str) -> tuple[Dataset, bytes]:
    ds = dcmread(ct_series(n_slices=1, transfer_syntax_uid=syntax)[0].open())
    ds.PatientID, ds.PatientName = "MRN-481516", "Wxyz^Qrst"
    from pydicom.encaps import generate_frames

    return ds, next(generate_frames(ds.PixelData, number_of_frames=1))


def copied(ds: Dataset, folder: Path) -> None:
    write_copy(BytesIO(encoded(ds)), folder, Cleaner(read_profile(None), Pseudonyms("p", bytes(range(32)))))


def test_a_name_that_occurs_in_compressed_pixels_is_chance(tmp_path: Path) -> None:
    ds, frame = compressed(JPEGLSLossless)
    middle = len(frame) // 2
    ds.PixelData = encapsulate([frame[:middle] + b" WXYZ " + frame[middle:]])
    copied(ds, tmp_path)


@pytest.mark.parametrize(("syntax", "marker"), [(JPEGLSLossless, b"\xff\xfe"), (JPEG2000Lossless, b"\xff\x64")])
def test_a_name_in_a_comment_of_a_compressed_frame_is_found(syntax: str, marker: bytes, tmp_path: Path) -> None:
    ds, frame = compressed(syntax)
    text = b"\x00\x01for Wxyz "
    comment = marker + (len(text) + 2).to_bytes(2, "big") + text
    end = 2 if syntax == JPEGLSLossless else 4 + int.from_bytes(frame[4:6], "big")
    ds.PixelData = encapsulate([frame[:end] + comment + frame[end:]])
    with pytest.raises(NotExportableError, match="of the source in its bytes"):
        copied(ds, tmp_path)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_name_after_the_end_of_a_compressed_frame_is_found(syntax: str, tmp_path: Path) -> None:
    ds, frame = compressed(syntax)
    ds.PixelData = encapsulate([frame[: frame.rfind(b"\xff\xd9") + 2] + b" Wxyz "])
    with pytest.raises(NotExportableError, match="of the source in its bytes"):
        copied(ds, tmp_path)


def test_a_name_after_the_last_pixel_is_found_by_the_second_look_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = dcmread(ct_series(n_slices=1)[0].open())
    ds.PatientID, ds.PatientName = "MRN-481516", "Wxyz^Qrst"
    ds.PixelData += b" Wxyz "
    monkeypatch.setattr(admission, "check_pixel_bytes", lambda _: None)
    with pytest.raises(NotExportableError, match="of the source in its bytes"):
        copied(ds, tmp_path)

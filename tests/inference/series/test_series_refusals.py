"""What is no volume is refused by name, with the value found and the way out; each leaf error has its case here."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from inference.errors import Refused
from inference.series import errors
from inference.series.assemble import assemble_volumes
from inference.series.errors import NiftiError, SliceGapError, StackError, UnsuitableObjectError
from tests.factories import (
    CORONAL,
    EncodedInstance,
    ct_series,
    drop_slice,
    enhanced_mr,
    mr_series,
)

Case = Callable[[], Sequence[EncodedInstance]]


def edited(**attributes: object) -> Case:
    """A CT series with these attributes in every instance; None deletes."""

    def edit(ds: Dataset, _: int) -> None:
        for keyword, value in attributes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return lambda: list(ct_series(4, edit=edit))


def of_class(sop_class_uid: str) -> Case:
    return edited(SOPClassUID=sop_class_uid)


def joined(*series: Sequence[EncodedInstance], **same: str) -> list[EncodedInstance]:
    """Instances of several series under one Series Instance UID."""
    uids = {"SeriesInstanceUID": "2.25.1", "StudyInstanceUID": "2.25.2", "FrameOfReferenceUID": "2.25.3"} | same

    def join(ds: Dataset) -> None:
        for keyword, uid in uids.items():
            setattr(ds, keyword, uid)

    return [instance.edited(join) for part in series for instance in part]


def bytes_of(data: bytes) -> Case:
    return lambda: [EncodedInstance("object.dcm", data)]


def cut(n_bytes: int, transfer_syntax_uid: str = "1.2.840.10008.1.2.1") -> Case:
    def edit(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:-n_bytes]

    return lambda: [instance.edited(edit) for instance in ct_series(3, transfer_syntax_uid=transfer_syntax_uid)]


def at_positions(along_mm: Sequence[float]) -> Case:
    def edit(ds: Dataset, index: int) -> None:
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], along_mm[index]]

    return lambda: list(ct_series(len(along_mm), edit=edit))


def moved(slice_index: int, by_mm: tuple[float, float, float]) -> Case:
    def edit(ds: Dataset, index: int) -> None:
        if index == slice_index:
            ds.ImagePositionPatient = [float(v) + d for v, d in zip(ds.ImagePositionPatient, by_mm, strict=True)]

    return lambda: list(ct_series(6, edit=edit))


def nested(depth: int) -> Case:
    def edit(ds: Dataset, _: int) -> None:
        item = Dataset()
        for _level in range(depth):
            outer = Dataset()
            outer.ReferencedStudySequence = DicomSequence([item])
            item = outer
        ds.update(item)

    return lambda: list(ct_series(3, edit=edit))


def with_broken_codestream() -> list[EncodedInstance]:
    def edit(ds: Dataset) -> None:
        data = bytearray(ds.PixelData)
        data[60:160] = bytes(100)
        ds.PixelData = bytes(data)

    return [instance.edited(edit) for instance in ct_series(3, transfer_syntax_uid=JPEG2000Lossless)]


def without_functional_groups() -> list[EncodedInstance]:
    def edit(ds: Dataset, _: int) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        ds.NumberOfFrames = 1

    return list(ct_series(1, edit=edit))


def many_echoes() -> list[EncodedInstance]:
    def at(number: int) -> Sequence[EncodedInstance]:
        return mr_series(
            3,
            rows=4,
            columns=5,
            seed=f"t{number}",
            edit=lambda ds, _: setattr(ds, "EchoTime", number),
        )

    return joined(*(at(number) for number in range(1, 18)))


def part_of_a_concatenation() -> list[EncodedInstance]:
    def cut(ds: Dataset) -> None:
        ds.ConcatenationUID = "2.25.9"
        ds.InConcatenationNumber, ds.InConcatenationTotalNumber = 1, 3

    return [enhanced_mr(mr_series(4), edit=cut)]


def with_modality_lut() -> list[EncodedInstance]:
    def edit(ds: Dataset, _: int) -> None:
        ds.ModalityLUTSequence = DicomSequence([Dataset()])

    return list(ct_series(3, edit=edit))


def one_slice_twice_with_other_values() -> list[EncodedInstance]:
    other = ct_series(4, seed="b", edit=lambda ds, _: setattr(ds, "PixelData", ds.PixelData[::-1]))
    return joined(ct_series(4), other[:1])


def two_contents_under_one_uid() -> list[EncodedInstance]:
    series = ct_series(4)
    other = series[2].edited(lambda ds: setattr(ds, "PixelData", ds.PixelData[::-1]))
    return [*series, other]


CASES: dict[str, Case] = {
    "not-dicom": bytes_of(b"GIF89a" + bytes(500)),
    "unreadable": lambda: [
        EncodedInstance(i.name, i.part10[:400] + bytes(200))
        for i in ct_series(3, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    ],
    "nested-too-deeply": nested(60),
    "dicomdir": edited(SOPClassUID="1.2.840.10008.1.3.10"),
    "sop-class-missing": lambda: [
        EncodedInstance(i.name, i.part10.replace(b"1.2.840.10008.5.1.4.1.1.2\0", bytes(26))) for i in ct_series(3)
    ],
    "uid-missing": edited(StudyInstanceUID=None),
    "secondary-capture": of_class("1.2.840.10008.5.1.4.1.1.7"),
    "localizer": edited(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "segmentation": of_class("1.2.840.10008.5.1.4.1.1.66.4"),
    "structured-report": of_class("1.2.840.10008.5.1.4.1.1.88.33"),
    "presentation-state": of_class("1.2.840.10008.5.1.4.1.1.11.1"),
    "radiotherapy-object": of_class("1.2.840.10008.5.1.4.1.1.481.3"),
    "raw-data": of_class("1.2.840.10008.5.1.4.1.1.66"),
    "spectroscopy": of_class("1.2.840.10008.5.1.4.1.1.4.2"),
    "encapsulated-document": of_class("1.2.840.10008.5.1.4.1.1.104.1"),
    "parametric-map": of_class("1.2.840.10008.5.1.4.1.1.30"),
    "pet": of_class("1.2.840.10008.5.1.4.1.1.128"),
    "not-ct-or-mr": of_class("1.2.840.10008.5.1.4.1.1.1"),
    "colour-image": edited(PhotometricInterpretation="PALETTE COLOR"),
    "derived-map": edited(PixelPresentation="COLOR"),
    "mosaic": edited(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
    "no-pixel-data": edited(PixelData=None),
    "pixel-data-truncated": cut(2),
    "pixel-data-undecodable": with_broken_codestream,
    "transfer-syntax-unsupported": lambda: [
        i.edited(lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.100")) for i in
        ct_series(3, transfer_syntax_uid=RLELossless)
    ],
    "pixel-format": edited(Rows=None),
    "rescale": edited(RescaleSlope=0),
    "geometry-missing": edited(ImagePositionPatient=None),
    "no-images": list,
    "mixed-series": lambda: [*ct_series(3), *ct_series(3, seed="other")],
    "conflicting-instance": two_contents_under_one_uid,
    "too-few-slices": lambda: list(ct_series(2)),
    "slice-gap": lambda: drop_slice(ct_series(6), slice_number=3),
    "spacing-not-uniform": at_positions([0, 0.5, 1, 1.5, 2, 2.5, 3, 13.23, 23.41, 33.67, 43.79, 53.94]),
    "gantry-tilt": lambda: list(ct_series(6, tilt_deg=46.0)),
    "slices-not-aligned": moved(2, (13.0, 0, 0)),
    "duplicate-positions": one_slice_twice_with_other_values,
    "multiple-time-points": many_echoes,
    "concatenation-incomplete": part_of_a_concatenation,
    "mixed-orientations": lambda: joined(ct_series(4), ct_series(2, seed="b", orientation=CORONAL)),
    "mixed-sizes": lambda: joined(ct_series(4), ct_series(2, seed="b", rows=12)),
    "mixed-photometric-interpretations": lambda: list(
        mr_series(6, edit=lambda ds, index: setattr(ds, "PhotometricInterpretation", f"MONOCHROME{1 + index % 2}"))
    ),
    "rescale-differs": lambda: list(
        ct_series(20, edit=lambda ds, index: setattr(ds, "RescaleIntercept", 0 if index == 9 else -1024))
    ),
    "pixel-data-too-long": lambda: list(
        ct_series(3, edit=lambda ds, _: setattr(ds, "PixelData", ds.PixelData + ds.PixelData[::-1]))
    ),
    "mixed-frames-of-reference": lambda: list(
        ct_series(4, edit=lambda ds, index: setattr(ds, "FrameOfReferenceUID", f"2.25.{1 + index // 2}"))
    ),
}  # fmt: skip

# Raised for sizes that no test should make, with lower bounds in test_series_hostile.py, and of volumes (segment).
TESTED_ELSEWHERE = {"field-of-view", "object-too-large", "series-too-large"}


def leaves(branch: type[errors.SeriesError]) -> set[str]:
    return {cls.code for cls in branch.__subclasses__()} | {
        code for cls in branch.__subclasses__() for code in leaves(cls)
    }


def test_every_leaf_error_has_a_case():
    assert set(CASES) | TESTED_ELSEWHERE == leaves(UnsuitableObjectError) | leaves(StackError)


def test_codes_are_unique():
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.SeriesError)]
    codes = [cls.code for cls in classes if "code" in vars(cls) and cls is not errors.SeriesError]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("code", CASES)
def test_it_is_refused_by_name(code: str):
    with pytest.raises(Refused) as caught:
        assemble_volumes(CASES[code]())
    error = caught.value
    assert error.code == code
    assert "Phantom" not in str(error)
    assert "; " in str(error), "the message ends with what to do"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_a_gap_of_more_than_a_quarter_of_the_stack_is_refused_and_located():
    series = ct_series(12, rows=6, columns=5)
    with pytest.raises(SliceGapError, match=r"after slice 2 is 9\.00 mm, expected 3\.00 mm"):
        assemble_volumes([series[i] for i in (0, 1, 4, 5, 7, 8, 9, 10, 11)])


def test_more_than_three_of_four_slices_missing_is_a_gap():
    series = ct_series(60, rows=6, columns=5)
    with pytest.raises(SliceGapError, match=r"after slice 4 is 18\.00 mm, expected 3\.00 mm"):
        assemble_volumes([series[i] for i in (0, 1, 6, 11, 17, 23, 28, 33, 39, 44, 49, 54, 59)])


def test_the_order_of_arrival_does_not_change_the_refusal():
    series = joined(ct_series(4), ct_series(2, seed="b", orientation=CORONAL))
    messages = set()
    for order in (series, series[::-1], series[3:] + series[:3]):
        with pytest.raises(Refused) as caught:
            assemble_volumes(order)
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"ImagePositionPatient": [0, 1e300, 0]}, r"ImagePositionPatient \(0\.0, 1e\+300, 0\.0\), expected at most"),
        ({"PixelSpacing": [1e4, 1e4]}, r"Pixel Spacing \(10000\.0, 10000\.0\), expected two values of 0\.001 to 1000"),
        ({"PixelSpacing": [1e-300, 0.7]}, r"Pixel Spacing \(1e-300, 0\.7\), expected"),
        ({"PixelSpacing": [0.7, 0]}, r"Pixel Spacing \(0\.7, 0\.0\), expected"),
    ],
)
def test_places_and_sizes_that_no_patient_has_are_refused(attributes: dict[str, object], found: str) -> None:
    with pytest.raises(errors.GeometryMissingError, match=found):
        assemble_volumes(edited(**attributes)())


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize("value", ["", "1\\x", "nan\\1\\2", "1e999\\0\\0", "0\\0", "-1\\1", "1\\1\\1\\1\\1\\1"])
def test_odd_geometry_values_are_refused(keyword: str, value: str):
    octets = value.encode().ljust(len(value) + len(value) % 2)

    def corrupt(ds: Dataset) -> None:
        ds[keyword] = ds.get_item(keyword)._replace(value=octets, length=len(octets))

    with pytest.raises(errors.GeometryMissingError, match=re.sub("(?<=.)(?=[A-Z])", " ?", keyword)):
        assemble_volumes([instance.edited(corrupt) for instance in ct_series(3)])


def test_nifti_errors_have_their_own_codes():
    assert leaves(NiftiError) == {
        "nifti-unreadable", "nifti-dimensions", "nifti-affine", "nifti-too-large", "nifti-data-type", "nifti-units",
    }  # fmt: skip

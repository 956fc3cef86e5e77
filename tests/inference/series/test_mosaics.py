"""Mosaics of known truth are volumes at their place; what a header does not say is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from inference.series.assemble import assemble_volumes
from inference.series.errors import MosaicError
from inference.series.stack_choice import StackChoice
from inference.series.volume import SourceVolume
from tests.csa_writer import mosaic_tags, write_csa
from tests.factories import EncodedInstance, SyntheticSeries, enhanced_mr, mr_series
from tests.mosaics import oblique_series, siemens_mosaic, united_imaging_mosaic

SERIES = oblique_series()
Mosaic = Callable[..., EncodedInstance]


def assert_is_truth(source: SourceVolume, series: SyntheticSeries) -> None:
    """Same voxels at the same places; slices ascend in both."""
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    np.testing.assert_allclose(source.volume.affine, series.affine, atol=1e-6)


@pytest.mark.parametrize("csa_version", [1, 2])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_siemens_mosaic_lies_where_its_slices_lie(is_reversed: bool, csa_version: int):
    (source,) = assemble_volumes([siemens_mosaic(SERIES, is_reversed=is_reversed, csa_version=csa_version)])
    assert_is_truth(source, SERIES)
    assert source.remarks == ()
    assert len(source.headers) == 1
    (reference,) = set(source.plane_sources)
    assert (reference.frame_number, reference.is_tile) == (None, True)


def test_a_united_imaging_mosaic_lies_where_its_slices_lie():
    (source,) = assemble_volumes([united_imaging_mosaic(SERIES)])
    assert_is_truth(source, SERIES)
    assert len(source.headers) == 1


@pytest.mark.parametrize("make", [siemens_mosaic, united_imaging_mosaic])
@pytest.mark.parametrize("n_slices", [3, 4, 5, 6, 9, 10, 16, 17])
def test_tiles_may_fill_their_grid_or_not(make: Mosaic, n_slices: int):
    """Of Siemens, 5, 10 and 17 leave a whole row of places empty."""
    series = oblique_series(n_slices, rows=6, columns=8)
    (source,) = assemble_volumes([make(series)])
    assert_is_truth(source, series)


@pytest.mark.parametrize("layout", [(1, 7), (7, 1), (2, 4), (4, 2)])
def test_another_layout_is_found_by_the_acquired_matrix(layout: tuple[int, int]):
    (source,) = assemble_volumes([united_imaging_mosaic(SERIES, layout=layout)])
    assert_is_truth(source, SERIES)


@pytest.mark.parametrize("make", [siemens_mosaic, united_imaging_mosaic])
@pytest.mark.parametrize(
    "transfer_syntax_uid",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
     JPEG2000Lossless],
)  # fmt: skip
def test_every_encoding_is_read(make: Mosaic, transfer_syntax_uid: str):
    """In implicit VR nothing says what private values are."""
    series = oblique_series(rows=24, columns=32)  # smaller than this no JPEG 2000 is written
    (source,) = assemble_volumes([make(series, transfer_syntax_uid=transfer_syntax_uid)])
    assert_is_truth(source, series)


def set_matrix(*numbers: int) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, "AcquisitionMatrix", list(numbers))


@pytest.mark.parametrize(
    "edit",
    [
        set_matrix(0, 10, 12, 0),
        set_matrix(12, 0, 0, 10),  # the order that Siemens writes for steps along the columns
        set_matrix(5, 0, 0, 6),  # interpolated to twice the size
        set_matrix(10, 0, 0, 8),  # two thirds of the phase steps
        lambda ds: ds.pop("AcquisitionMatrix"),
    ],
    ids=["other direction", "swapped", "interpolated", "phase resolution", "unknown"],
)
def test_the_acquired_matrix_may_be_smaller_than_a_tile(edit: Callable[[Dataset], None]):
    (source,) = assemble_volumes([siemens_mosaic(SERIES, edit=edit)])
    assert_is_truth(source, SERIES)


def set_csa(n_tiles: int | None = 7, normal: tuple[float, ...] | None = None) -> Callable[[Dataset], None]:
    """Replace what the CSA header says; the private number of tiles is removed."""
    across = SERIES.affine[:3, 0] / np.linalg.norm(SERIES.affine[:3, 0])

    def edit(ds: Dataset) -> None:
        tags = mosaic_tags(n_tiles, across if normal is None else normal or None)
        ds.private_block(0x0029, "SIEMENS CSA HEADER")[0x10].value = write_csa(tags)
        del ds[0x0019100A]

    return edit


def remove_private(ds: Dataset) -> None:
    ds.remove_private_tags()


def remove_csa(ds: Dataset) -> None:
    del ds[0x00291010]


def cut_csa(ds: Dataset) -> None:
    ds[0x00291010].value = ds[0x00291010].value[:300]


def set_uih(n_items: int) -> Callable[[Dataset], None]:
    def edit(ds: Dataset) -> None:
        del ds[0x00651051].value[n_items:]

    return edit


def test_the_number_of_tiles_is_enough_in_one_place():
    assert_is_truth(assemble_volumes([siemens_mosaic(SERIES, edit=set_csa())])[0], SERIES)

    def without_creators(ds: Dataset) -> None:
        del ds[0x00190010], ds[0x00290010]

    assert_is_truth(assemble_volumes([siemens_mosaic(SERIES, edit=without_creators)])[0], SERIES)


REFUSED: dict[str, tuple[Mosaic, Callable[[Dataset], None], str]] = {
    "private attributes removed": (siemens_mosaic, remove_private, r"number of tiles is missing: no CSA header .*100A"),
    "CSA header removed": (siemens_mosaic, remove_csa, r"direction .* is missing: no CSA header \(0029,1010\)"),
    "CSA header cut": (siemens_mosaic, cut_csa, r"CSA header \(0029,1010\) is damaged: an item of 2 bytes, 0 are left"),
    "no normal": (siemens_mosaic, set_csa(normal=()), "SliceNormalVector of the CSA header"),
    "normal along the rows": (siemens_mosaic, set_csa(normal=(1, 0, 0)), r"SliceNormalVector \[1.0, 0.0, 0.0\], exp"),
    "normal not of length 1": (siemens_mosaic, set_csa(normal=(0, 0, 0)), r"SliceNormalVector \[0.0, 0.0, 0.0\], exp"),
    "no number": (siemens_mosaic, set_csa(None), "number of tiles is missing"),
    "no spacing": (siemens_mosaic, lambda ds: ds.pop("SpacingBetweenSlices"), r"Spacing Between Slices \(0018,0088\)"),
    "two numbers": (
        siemens_mosaic,
        lambda ds: setattr(ds[0x0019100A], "value", 8),
        r"contradicting numbers of tiles, 7 in the CSA header and 8 in \(0019,100A\)",
    ),
    "more tiles than the picture divides into": (
        siemens_mosaic, set_csa(17), r"17 tiles contradict a picture of 30 x 36 pixels and slices .* 10 x 12",
    ),
    "fewer tiles than the matrix says": (siemens_mosaic, set_csa(4), "4 tiles contradict"),
    "fewer tiles than there are images": (siemens_mosaic, set_csa(6), "place 7 holds an image, though .* is 6"),
    "absurd number": (siemens_mosaic, set_csa(10**9), r"1e\+09 tiles, expected 1 to 1024"),
    "UIH, private attributes removed": (united_imaging_mosaic, remove_private, r"private sequence \(0065,1051\)"),
    "UIH, an item missing": (united_imaging_mosaic, set_uih(6), r"7 tiles in \(0065,1050\), 6 items in \(0065,1051\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_the_header_does_not_say_is_refused_by_name(case: str):
    make, edit, words = REFUSED[case]
    with pytest.raises(MosaicError, match=words) as refusal:
        assemble_volumes([make(SERIES, edit=edit)])
    assert refusal.value.code == "mosaic"
    assert "Phantom" not in str(refusal.value)


def test_a_mosaic_without_position_is_refused_by_name():
    with pytest.raises(Exception, match="ImagePositionPatient has 0 usable values"):
        assemble_volumes([siemens_mosaic(SERIES, edit=lambda ds: ds.pop("ImagePositionPatient"))])


@pytest.mark.parametrize("make", [siemens_mosaic, united_imaging_mosaic])
def test_of_several_time_points_the_first_is_run_and_the_others_are_named(make: Mosaic):
    mosaics = [make(SERIES, repetition=n) for n in (3, 1, 2)]
    (source,) = assemble_volumes(mosaics)
    assert_is_truth(source, SERIES)
    assert source.stack_name == "AcquisitionNumber 1"
    assert {remark.code: remark.text for remark in source.remarks}["repeats-not-run"].startswith("2 of 3 stacks")
    everyone = assemble_volumes(mosaics, stacks=(StackChoice.ALL,))
    assert [{r.sop_instance_uid for r in one.plane_sources} for one in everyone] == [
        {mosaic.dataset().SOPInstanceUID} for mosaic in (mosaics[1], mosaics[2], mosaics[0])
    ]


def test_time_points_that_nothing_but_their_order_tells_apart():
    def same(ds: Dataset) -> None:
        ds.AcquisitionNumber = 1

    sources = assemble_volumes(
        [siemens_mosaic(SERIES, repetition=n, edit=same) for n in (2, 3, 1)], stacks=(StackChoice.ALL,)
    )
    assert [source.stack_name for source in sources] == ["repetition 1", "repetition 2", "repetition 3"]
    assert [source.headers[0].InstanceNumber for source in sources] == [1, 2, 3]


def test_time_points_that_follow_the_heads_motion_stay_apart():
    """Half a slice further and turned by a degree: each mosaic is an image by itself, and repeats the first."""
    turn = np.deg2rad(1.0)
    row, column = SERIES.affine[:3, 2] / 1.1, SERIES.affine[:3, 1] / 1.3
    turned = [*(np.cos(turn) * row + np.sin(turn) * column), *(np.cos(turn) * column - np.sin(turn) * row)]

    def moved(ds: Dataset) -> None:
        ds.ImagePositionPatient = [
            float(v) + n * 1.8 for v, n in zip(ds.ImagePositionPatient, (0.1, 0.2, 1), strict=True)
        ]
        ds.ImageOrientationPatient = [f"{v:.10g}" for v in turned]

    mosaics = [siemens_mosaic(SERIES), *(siemens_mosaic(SERIES, repetition=n, edit=moved) for n in range(2, 30))]
    (source,) = assemble_volumes(mosaics)
    assert_is_truth(source, SERIES)
    assert {remark.code for remark in source.remarks} == {"several-stacks", "repeats-not-run"}


def test_a_long_time_series_is_no_larger_than_the_one_that_is_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inference.series.assemble.MAX_VOXELS", 2000)  # a mosaic has 1080 pixels, 840 in tiles
    (source,) = assemble_volumes([siemens_mosaic(SERIES, repetition=n) for n in range(1, 5)])
    assert_is_truth(source, SERIES)


def test_slices_that_were_split_up_but_still_say_mosaic_are_slices():
    series = mr_series(5, rows=10, columns=12)

    def leftover(ds: Dataset, _: int) -> None:
        ds.Manufacturer = "SIEMENS"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        ds.AcquisitionMatrix = [0, 12, 10, 0]

    (source,) = assemble_volumes(list(series.edited(leftover)))
    assert_is_truth(source, series)


def test_frames_of_an_enhanced_image_that_still_says_mosaic_are_slices():
    """Numaris X splits mosaics into frames and keeps the word."""
    series = mr_series(5)

    def leftover(ds: Dataset) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]

    (source,) = assemble_volumes([enhanced_mr(series, edit=leftover)])
    assert source.volume.spatial_shape == (5, 40, 36)


def _type_of_navigator(ds: Dataset) -> None:
    """Only a private attribute of the frame says it."""
    groups = ds.PerFrameFunctionalGroupsSequence[0]
    item = Dataset()
    item.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0x75, "CS", ["ORIGINAL", "M", "MOSAIC"])
    groups.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", [item])


@pytest.mark.parametrize(
    "edit", [_type_of_navigator, lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"])]
)
def test_a_mosaic_in_the_only_frame_of_an_enhanced_image_is_refused_by_name(edit: Callable[[Dataset], None]):
    with pytest.raises(MosaicError, match="the only frame of a multi-frame image"):
        assemble_volumes([enhanced_mr(mr_series(1), edit=edit)])

"""Multi-frame instances: geometry and rescale come from the functional groups, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from inference.series.assemble import assemble_volumes
from inference.series.errors import GeometryMissingError, PixelDataTruncatedError, SliceGapError
from tests.factories import CORONAL, SyntheticSeries, enhanced_mr, mr_series


def rescaled(series: SyntheticSeries) -> np.ndarray:
    numbers = np.arange(len(series), dtype=np.float32)[:, None, None]
    return series.voxels * (1 + numbers) - numbers


@pytest.mark.parametrize("frame_order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]], ids=str)
def test_frames_lie_where_their_functional_groups_say(frame_order: list[int]):
    series = mr_series(5, orientation=CORONAL)
    (source,) = assemble_volumes([enhanced_mr(series, frame_order=frame_order)])
    np.testing.assert_allclose(source.volume.affine, series.affine, atol=1e-6)
    np.testing.assert_array_equal(source.volume.array, rescaled(series))
    assert [reference.frame_number for reference in source.plane_sources] == [
        frame_order.index(i) + 1 for i in range(5)
    ]
    assert len(source.headers) == 1
    assert source.modality == "MR"


@pytest.mark.parametrize("transfer_syntax_uid", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_frames_keep_their_places(transfer_syntax_uid: str):
    series = mr_series(5, orientation=CORONAL)
    (source,) = assemble_volumes(
        [enhanced_mr(series, frame_order=[2, 0, 4, 1, 3], transfer_syntax_uid=transfer_syntax_uid)]
    )
    np.testing.assert_array_equal(source.volume.array, rescaled(series))


def test_geometry_at_the_root_does_not_count():
    def mislead(ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, 0]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [9, 9]

    series = mr_series(5, orientation=CORONAL)
    (source,) = assemble_volumes([enhanced_mr(series, edit=mislead)])
    np.testing.assert_allclose(source.volume.affine, series.affine, atol=1e-6)


def test_without_functional_groups_no_geometry_is_invented():
    def strip(ds: Dataset) -> None:
        del ds.PerFrameFunctionalGroupsSequence
        ds.ImagePositionPatient = [0, 0, 0]

    with pytest.raises(GeometryMissingError, match="no Per-frame Functional Groups"):
        assemble_volumes([enhanced_mr(mr_series(5), edit=strip)])


def test_functional_groups_and_frames_must_be_as_many():
    def drop(ds: Dataset) -> None:
        del ds.PerFrameFunctionalGroupsSequence[-1]

    with pytest.raises(GeometryMissingError, match="4 functional groups for 5 frames"):
        assemble_volumes([enhanced_mr(mr_series(5), edit=drop)])


def test_more_frames_than_pixels_are_refused():
    def cut(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:-2]

    with pytest.raises(PixelDataTruncatedError, match="14398 bytes, expected 14400"):
        assemble_volumes([enhanced_mr(mr_series(5), edit=cut)])


def test_a_concatenation_of_two_instances_is_one_volume():
    series = mr_series(6, orientation=CORONAL)
    parts = [enhanced_mr(series, frame_order=order) for order in ([0, 2, 4], [5, 3, 1])]
    (source,) = assemble_volumes(parts)
    np.testing.assert_array_equal(source.volume.array, rescaled(series))
    assert len(source.headers) == 2


def test_a_missing_frame_is_a_gap():
    with pytest.raises(SliceGapError, match=r"after slice 2 is 5\.00 mm, expected 2\.50 mm"):
        assemble_volumes([enhanced_mr(mr_series(5), frame_order=[0, 1, 3, 4])])

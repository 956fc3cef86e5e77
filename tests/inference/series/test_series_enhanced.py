"""Multi-frame instances: geometry and rescale come from the functional groups, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from inference.series.assemble import assemble_volumes
from inference.series.errors import GeometryMissingError, PixelDataTruncatedError, SliceGapError
from inference.series.stack_choice import StackChoice
from tests.factories import AXIAL, CORONAL, SyntheticSeries, encode, enhanced_mr, mr_series


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


def test_stacks_and_temporal_positions_of_one_instance_are_told_apart():
    """Two orientations, each at two times, their frames in any order; every frame in its stack, at its place."""
    parts = {
        (stack, time): mr_series(4, orientation=orientation, seed=f"{stack} {time}")
        for stack, orientation in (("1", AXIAL), ("2", CORONAL))
        for time in (1, 2)
    }
    ds = enhanced_mr(parts["1", 1]).dataset()
    frames = []
    for (stack, time), series in parts.items():
        part = enhanced_mr(series).dataset()
        orientation = part.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        for index, groups in enumerate(part.PerFrameFunctionalGroupsSequence):
            groups.PlaneOrientationSequence = orientation
            content = Dataset()
            content.StackID, content.TemporalPositionIndex = stack, time
            groups.FrameContentSequence = [content]
            size = len(part.PixelData) // 4
            frames.append((groups, part.PixelData[index * size : (index + 1) * size]))
    del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    order = [5, 12, 0, 9, 3, 14, 7, 1, 10, 15, 2, 8, 13, 6, 4, 11]
    ds.NumberOfFrames = 16
    ds.PerFrameFunctionalGroupsSequence = [frames[index][0] for index in order]
    ds.PixelData = b"".join(frames[index][1] for index in order)
    volumes = assemble_volumes([encode(ds)], stacks=(StackChoice.ALL,))
    assert [source.stack_name for source in volumes] == [
        "orientation axial, TemporalPosition 1",
        "orientation axial, TemporalPosition 2",
        "orientation coronal, TemporalPosition 1",
        "orientation coronal, TemporalPosition 2",
    ]
    for source, (key, series) in zip(volumes, sorted(parts.items()), strict=True):
        np.testing.assert_allclose(source.volume.affine, series.affine, atol=1e-6, err_msg=str(key))
        np.testing.assert_array_equal(source.volume.array, rescaled(series))
        first_of_part = list(parts).index(key) * 4
        assert [reference.frame_number for reference in source.plane_sources] == [
            order.index(first_of_part + index) + 1 for index in range(4)
        ]
    first_times = assemble_volumes([encode(ds)])
    assert [source.stack_name for source in first_times] == [volumes[0].stack_name, volumes[2].stack_name]

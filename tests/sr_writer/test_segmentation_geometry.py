"""Voxels of a SEG lie in patient space where the masks lie, whatever the orientation and the size."""

from __future__ import annotations

import itertools

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.factories import ct_series, mr_series
from tests.sr_writer.writing import (
    ANONYMIZED_TYPE,
    FOREGROUND_TYPE,
    headers_of,
    lps_points,
    masks_on,
    read_with_highdicom,
    write,
    write_phantom,
)

SHAPE = (5, 7, 9)
SPACING_MM = np.array([3.0, 0.8, 0.7])
ORIGIN_MM = (-31.5, 12.25, -700.125)


def affine_of(permutation: tuple[int, ...], signs: tuple[int, ...]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (direction, sign) in enumerate(zip(permutation, signs, strict=True)):
        affine[direction, axis] = sign * SPACING_MM[axis]
    affine[:3, 3] = ORIGIN_MM
    return affine


def headers_on(affine: NDArray[np.float64]) -> list[Dataset]:
    """Headers of a series, moved to the slices of ``affine``; also of a left-handed one."""
    headers = headers_of(ct_series(SHAPE[0], rows=SHAPE[1], columns=SHAPE[2]))
    for slice_index, ds in enumerate(headers):
        ds.ImagePositionPatient = [f"{v:.6f}" for v in affine[:3, 3] + slice_index * affine[:3, 0]]
    return headers


def assert_written_where_meant(headers: list[Dataset], affine: NDArray[np.float64]) -> None:
    geometry = hd.VolumeGeometry(affine, SHAPE, "PATIENT", headers[0].FrameOfReferenceUID)
    foreground, anonymized = masks_on(SHAPE)
    written = write(headers, geometry, foreground, anonymized)
    assert written is not None
    found = read_with_highdicom(written.part10())
    assert found[FOREGROUND_TYPE] == lps_points(foreground, affine)
    assert found[ANONYMIZED_TYPE] == lps_points(anonymized, affine)


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)), ids=str)
@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))), ids=str)
def test_each_of_the_48_orientations_reads_back_in_place(permutation: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = affine_of(permutation, signs)
    assert_written_where_meant(headers_on(affine), affine)


@pytest.mark.parametrize("degrees", [(7.0, 0.0, 0.0), (20.0, -35.0, 12.5), (89.0, 44.0, -121.0)])
def test_an_oblique_series_reads_back_in_place(degrees: tuple[float, float, float]) -> None:
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    affine = affine_of((2, 1, 0), (1, 1, 1))
    affine[:3, :3] = about_z @ about_y @ about_x @ affine[:3, :3]
    assert_written_where_meant(headers_on(affine), affine)


def test_frames_stand_in_source_order_within_each_segment() -> None:
    series = mr_series(6, rows=9, columns=8)
    _, ds = write_phantom(series)
    order = {ds.SOPInstanceUID: index for index, ds in enumerate(series.datasets())}
    frames = [
        (
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            order[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID],
        )
        for item in ds.PerFrameFunctionalGroupsSequence
    ]
    assert frames == sorted(frames)
    assert {number for number, _ in frames} == {1, 2}


def test_every_frame_lies_on_the_source_slice_that_it_names() -> None:
    series = mr_series(6, rows=9, columns=8)
    _, ds = write_phantom(series)
    positions = {ds.SOPInstanceUID: ds.ImagePositionPatient for ds in series.datasets()}
    for item in ds.PerFrameFunctionalGroupsSequence:
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.SpatialLocationsPreserved == "YES"
        assert item.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(
            positions[source.ReferencedSOPInstanceUID], abs=1e-6
        )


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (7, 9), (5, 5), (1, 3), (13, 11)])
def test_frames_that_do_not_fill_whole_bytes_read_back_exactly(rows: int, columns: int) -> None:
    series = ct_series(9, rows=rows, columns=columns)
    foreground = np.random.default_rng(1).random(series.voxels.shape) < 0.5
    foreground[:, 0, 0] = True
    nothing = np.zeros_like(foreground)
    written = write(headers_of(series), series.truth.get_geometry(), foreground, nothing)
    assert written is not None
    assert read_with_highdicom(written.part10())[FOREGROUND_TYPE] == lps_points(foreground, series.affine)


def test_a_thousand_slices_of_an_odd_size_stay_exact() -> None:
    n_slices, rows, columns = 1003, 9, 5
    header = headers_of(ct_series(1, rows=rows, columns=columns))[0]
    headers = []
    for slice_index in range(n_slices):
        ds = Dataset()
        ds.update(header)
        ds.SOPInstanceUID = f"2.25.7.{slice_index}"
        headers.append(ds)
    affine = affine_of((2, 1, 0), (1, 1, 1))
    geometry = hd.VolumeGeometry(affine, (n_slices, rows, columns), "PATIENT", header.FrameOfReferenceUID)
    rng = np.random.default_rng(2)
    foreground, anonymized = rng.random((2, n_slices, rows, columns)) < 0.4
    written = write(headers, geometry, foreground, anonymized)
    assert written is not None
    found = read_with_highdicom(written.part10())
    assert found[FOREGROUND_TYPE] == lps_points(foreground, affine)
    assert found[ANONYMIZED_TYPE] == lps_points(anonymized, affine)

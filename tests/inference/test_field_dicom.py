"""The DICOM cases of public bug reports (``field/d*.zip``): one synthetic head, each time with another odd header."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from inference.input_checks import check_field_of_view
from inference.models import reference_model
from inference.segment import load_models, segment
from inference.series.assemble import assemble_volumes
from inference.series.files import ZipMemberSource, find_inputs
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict

pytestmark = pytest.mark.data
Read = Callable[[str], SourceVolume]

MR_CASES = {
    "d01_number_of_frames_0": [],
    "d02_pixel_data_twice_as_long": ["pixel-data-longer"],
    "d03_one_slice_twice": ["repeated-slices"],
    "d08_pixel_spacing_vr_ut": [],
    "d13_cosines_2_decimals": ["cosines-rounded"],
}


@pytest.fixture(scope="module")
def read(shared_data: Path) -> Read:
    """Function that reads one case, each once."""
    volumes: dict[str, SourceVolume] = {}

    def read_case(name: str) -> SourceVolume:
        if name not in volumes:
            (series,) = find_inputs([shared_data / "field" / f"{name}.zip"]).series
            (volumes[name],) = assemble_volumes(series.sources)
        return volumes[name]

    return read_case


def words_of(path: Path) -> NDArray[np.uint16]:
    """(slice, row, column) words as they lie in the files, ascending along z; the first frame of each."""
    (series,) = find_inputs([path]).series
    planes = {}
    for source in series.sources:
        assert isinstance(source, ZipMemberSource)
        with source.open() as file:
            ds = pydicom.dcmread(file)
        words = np.frombuffer(ds.PixelData, "<u2", ds.Rows * ds.Columns)
        planes[float(ds.ImagePositionPatient[2])] = words.reshape(ds.Rows, ds.Columns)
    return np.stack([planes[position] for position in sorted(planes)])


@pytest.mark.parametrize("name", MR_CASES)
def test_the_head_is_the_same_whatever_the_header_does(name: str, read: Read, shared_data: Path) -> None:
    source = read(name)
    np.testing.assert_array_equal(source.volume.array, words_of(shared_data / "field" / f"{name}.zip"))
    assert source.volume.spatial_shape == (85, 95, 74)
    assert [remark.code for remark in source.remarks] == MR_CASES[name]
    np.testing.assert_allclose(source.volume.spacing, (1.2, 1.2, 1.2), rtol=1e-4)
    assert not check_field_of_view(source)


def test_rounded_cosines_lie_along_the_line_of_positions(read: Read) -> None:
    source = read("d13_cosines_2_decimals")
    assert source.frames is not None
    assert source.frames.is_whole(source.volume.array)
    last = source.volume.affine @ [84, 0, 0, 1]
    np.testing.assert_allclose(last[:3], source.frames.positions_mm[-1], atol=1e-3)


def test_padding_beyond_its_bits_is_air(read: Read, shared_data: Path) -> None:
    source = read("d14_padding_63536_in_12_bits")
    words = words_of(shared_data / "field" / "d14_padding_63536_in_12_bits.zip").astype(np.float32)
    np.testing.assert_array_equal(source.volume.array, np.where(words == 63536, 0, words) - 1024.0)


def test_slices_without_rescale_are_in_hounsfield_units(read: Read, shared_data: Path) -> None:
    source = read("d25_some_slices_without_rescale")
    words = words_of(shared_data / "field" / "d25_some_slices_without_rescale.zip").astype(np.float32)
    np.testing.assert_array_equal(source.volume.array, words - 1024.0)
    assert [remark.code for remark in source.remarks] == ["rescale-completed"]


def test_inverted_mr_is_upright(read: Read, shared_data: Path) -> None:
    source = read("d15_monochrome1_mr_fullsize")
    words = words_of(shared_data / "field" / "d15_monochrome1_mr_fullsize.zip").astype(np.float32)
    np.testing.assert_array_equal(source.volume.array, words.max() - words)


def test_what_the_models_find_in_them(read: Read) -> None:
    models = load_models(reference_model("foreground"), reference_model("anonymized"), device="cpu")
    expected_ml = {
        "d14_padding_63536_in_12_bits": 287,
        "d25_some_slices_without_rescale": 287,
        "d15_monochrome1_mr_fullsize": 4528,
    }
    for name, volume_ml in expected_ml.items():
        source = read(name)
        found = segment(source, models)
        assert np.count_nonzero(found.foreground) * source.volume.voxel_volume / 1000 == pytest.approx(
            volume_ml, rel=0.01
        )
        assert not found.anonymized.any()
        if volume_ml > 4000:
            assert found.verdict.verdict is SeriesVerdict.FACE_PRESENT

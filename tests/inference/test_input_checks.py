"""Voxels that are no numbers, pictures of nothing, and volumes whose size no person has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import torch

from inference.input_checks import check_field_of_view, has_signal, with_numbers
from inference.models import read_model_spec, reference_model
from inference.segment import Models, Segmentation, load_models, segment
from inference.series.errors import FieldOfViewError
from inference.series.missing import fill_missing
from inference.series.nifti import read_nifti
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict
from tests.inference.test_segment import source_volume
from tests.phantom_head import SPACING_MM, dice, phantom
from tests.tiny_models import write_tiny_model

GRID_MM = (4.0, 3.0, 2.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Networks that mark what is above a value."""
    root = tmp_path_factory.mktemp("models")
    options = {"spacing_mm": GRID_MM, "patch_size": (16, 16, 16)}
    body = write_tiny_model(root / "body", "foreground", above=0.0, **options)
    removed = write_tiny_model(root / "removed", "anonymized", above=900.0, **options)
    return load_models(read_model_spec(body), read_model_spec(removed), device="cpu")


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(reference_model("foreground"), reference_model("anonymized"), device="cpu")


def of_modality(voxels: np.ndarray, modality: str, spacing_mm: tuple[float, float, float] = GRID_MM) -> SourceVolume:
    return dataclasses.replace(source_volume(voxels, spacing_mm=spacing_mm), modality=modality)


def codes(found: Segmentation) -> set[str]:
    return {remark.code for remark in found.remarks}


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e30])
def test_what_is_no_number_becomes_the_darkest_there_is(rubbish: float) -> None:
    voxels = np.arange(-12, 48, dtype=np.float32).reshape(3, 4, 5)
    voxels[1, 2, :3] = rubbish
    before = voxels.copy()
    missing = fill_missing(voxels)
    assert missing is not None
    np.testing.assert_array_equal(missing, np.abs(np.nan_to_num(before, nan=1e30)) > 100)
    np.testing.assert_array_equal(voxels[1, 2, :3], -12.0)
    others = np.abs(before) < 100
    np.testing.assert_array_equal(voxels[others], before[others])


@pytest.mark.parametrize(
    ("lowest", "air", "expected"), [(500.0, None, 0.0), (-30.0, None, -30.0), (40.0, -1024, -1024)]
)
def test_what_is_darkest(lowest: float, air: float | None, expected: float) -> None:
    voxels = np.full((2, 3, 4), lowest, np.float32)
    voxels[0, 0, 0], voxels[1] = lowest + 5, np.nan  # a whole plane without a number
    fill_missing(voxels, air=air)
    np.testing.assert_array_equal(voxels[1], expected)


def test_nothing_but_missing_voxels_becomes_zero() -> None:
    voxels = np.full((2, 3, 4), np.nan, np.float32)
    missing = fill_missing(voxels)
    assert missing is not None
    assert missing.all()
    assert not voxels.any()


def test_where_every_voxel_is_a_number_nothing_is_touched() -> None:
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    voxels.flags.writeable = False
    assert fill_missing(voxels) is None


@pytest.mark.parametrize(("modality", "rubbish"), [("CT", np.nan), ("MR", -3.4e38)])
def test_a_head_in_air_without_numbers_is_the_same_head(models: Models, modality: str, rubbish: float) -> None:
    head = phantom(noise=8.0, air=-1000.0, tissue=40.0) if modality == "CT" else phantom(noise=8.0, air=10.0)
    voxels = head.voxels.clip(-1024.0 if modality == "CT" else 0.0, None)
    voxels[~head.body] = np.float32(rubbish)
    found = segment(of_modality(voxels, modality, SPACING_MM), models)
    assert dice(found.foreground, head.body) > 0.98
    assert np.count_nonzero(found.anonymized & head.body) < 0.002 * np.count_nonzero(head.body)
    assert "voxels-not-finite" in codes(found)


@pytest.mark.parametrize(("modality", "air"), [("CT", -1024.0), ("MR", -7.0), ("", -7.0)])
def test_air_has_the_value_that_the_modality_gives_it(modality: str, air: float) -> None:
    voxels = np.arange(-7, 53, dtype=np.float32).reshape(3, 4, 5)
    voxels[2, 3, 4] = np.inf
    filled = with_numbers(of_modality(voxels, modality))
    assert filled.volume.array[2, 3, 4] == air
    assert filled.remarks[-1].text.startswith("1 voxels hold no finite number")
    assert filled.missing is not None
    assert np.argwhere(filled.missing).tolist() == [[2, 3, 4]]


@pytest.mark.parametrize("value", [0.0, 7.0, -1000.0, np.nan, np.inf, 1e30])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_volume_of_one_value_has_no_body(tiny_models: Models, modality: str, value: float) -> None:
    found = segment(of_modality(np.full((20, 24, 28), value, np.float32), modality), tiny_models)
    assert not found.foreground.any()
    assert not found.anonymized.any()
    assert found.verdict.verdict is SeriesVerdict.NOT_APPLICABLE
    assert "no-signal" in codes(found)


def test_a_speck_is_no_picture_and_a_small_body_is_one() -> None:
    voxels = np.full((50, 60, 70), 12.0, np.float32)
    voxels[3, 4, 5:10] = 900.0
    assert not has_signal(voxels)
    voxels = np.nextafter(voxels, np.float32(0), where=np.indices(voxels.shape)[2] % 2 == 0, out=voxels.copy())
    assert not has_signal(voxels)
    voxels[20:24, 20:24, 20:24] = 900.0  # 64 of 210 000 voxels
    assert has_signal(voxels)


def flat(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> SourceVolume:
    return source_volume(np.zeros(shape, np.float32), spacing_mm=spacing_mm)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((85, 95, 74), (0.12, 0.12, 0.12)),  # a head of 11 mm
        ((20, 20, 20), (0.001, 0.001, 0.001)),  # metres taken for millimetres
        ((60, 80, 70), (30.0, 30.0, 30.0)),  # a head of 2.4 m
        ((3400, 8, 8), (1.0, 1.0, 1.0)),
    ],
)
def test_a_size_that_no_person_has_is_refused(shape, spacing_mm, tiny_models: Models) -> None:
    with pytest.raises(FieldOfViewError, match=r"unit or scale is wrong") as refused:
        segment(flat(shape, spacing_mm), tiny_models)
    assert refused.value.code == "field-of-view"


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "is_doubtful"),
    [
        ((85, 95, 74), (0.6, 0.6, 0.6), True),  # a head of 57 mm
        ((85, 95, 74), (1.2, 1.2, 1.2), False),
        ((3, 256, 256), (5.0, 0.9, 0.9), False),  # a thin slab
        ((100, 256, 256), (0.003, 0.9, 0.9), True),  # positions in another unit than the pixels
        ((60, 70, 60), (9.0, 9.0, 9.0), True),  # a head three times as large
        ((500, 130, 100), (4.0, 4.0, 4.0), False),  # a whole body
        ((30, 300, 300), (4.0, 4.0, 4.0), True),  # 1.2 m to both sides
        ((300, 400, 400), (0.1, 0.2, 0.2), False),  # an inner ear
    ],
)
def test_a_size_that_few_scans_have_is_doubted(shape, spacing_mm, is_doubtful: bool) -> None:
    remarks = check_field_of_view(flat(shape, spacing_mm))
    assert [remark.code for remark in remarks] == (["scale-doubtful"] if is_doubtful else [])


def test_a_doubtful_scale_is_for_a_person_to_judge(tiny_models: Models) -> None:
    voxels = np.where(np.indices((12, 14, 20)).sum(0) > 20, 40.0, -1000.0)
    sure, doubtful = (segment(of_modality(voxels, "CT", (step, step, step)), tiny_models) for step in (5.0, 2.0))
    assert sure.verdict.verdict is SeriesVerdict.NOT_APPLICABLE
    assert doubtful.verdict.verdict is SeriesVerdict.INDETERMINATE
    assert "less than 80 mm" in doubtful.verdict.reasons[0]


@pytest.fixture(scope="module")
def field_case(shared_data: Path) -> Callable[[str], SourceVolume]:
    return lambda name: read_nifti(shared_data / "field" / name)


@pytest.mark.data
def test_the_head_whose_air_has_no_numbers(models: Models, field_case: Callable[[str], SourceVolume]) -> None:
    found = segment(field_case("m04_ct_nan_all_air.nii.gz"), models)
    voxel_ml = 0.027
    assert np.count_nonzero(found.foreground) * voxel_ml == pytest.approx(4490, rel=0.01)
    assert np.count_nonzero(found.anonymized) == 0


@pytest.mark.data
def test_the_volume_without_any_number_and_the_head_of_a_centimetre(
    tiny_models: Models, field_case: Callable[[str], SourceVolume]
) -> None:
    found = segment(field_case("m05c_all_nan.nii.gz"), tiny_models)
    assert not found.foreground.any()
    assert "no-signal" in codes(found)
    with pytest.raises(FieldOfViewError, match=r"10\.2 x 11\.4 x 8\.9 mm with voxels of 0\.12 x 0\.12 x 0\.12 mm"):
        segment(field_case("m02_scale_0.04_voxel_0.12mm.nii.gz"), tiny_models)


@pytest.mark.data
def test_a_face_cut_from_that_head_is_found(models: Models, field_case: Callable[[str], SourceVolume]) -> None:
    head = field_case("m04_ct_nan_all_air.nii.gz")
    assert head.missing is not None
    voxels = np.where(head.missing, np.nan, head.volume.array)
    position_mm = head.volume.map_indices_to_reference(np.argwhere(np.ones(voxels.shape, bool)))
    back_mm, head_mm = position_mm[:, 1].reshape(voxels.shape), position_mm[:, 2].reshape(voxels.shape)
    front_mm, top_mm = back_mm[~head.missing].min(), head_mm[~head.missing].max()
    voxels[(head_mm < top_mm - 90) & (head_mm > top_mm - 210) & (back_mm < front_mm + 45)] = np.nan
    found = segment(dataclasses.replace(head, volume=head.volume.with_array(voxels), missing=None), models)
    assert found.verdict.verdict is SeriesVerdict.DEFACED


def test_the_source_keeps_its_voxels(tiny_models: Models) -> None:
    voxels = np.where(np.indices((12, 14, 20)).sum(0) > 20, 40.0, np.nan).astype(np.float32)
    source = of_modality(voxels, "MR", (5.0, 5.0, 5.0))
    volume: hd.Volume = source.volume
    volume.array.flags.writeable = False
    segment(source, tiny_models)
    np.testing.assert_array_equal(volume.array, voxels)

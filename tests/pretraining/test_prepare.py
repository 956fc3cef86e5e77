"""Volumes are prepared once, rightly, or refused by name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pretraining.dataset import StoredVolume
from pretraining.errors import DatasetRefused, DiskFullError, VolumeRefused
from pretraining.prepare import Normalisation, PrepareSettings, prepare_volume
from pretraining.prepare_all import prepare_dataset
from pretraining.sources import find_volumes
from tests.pretraining.volumes import SHAPE, cap, ellipsoid, texture, write_dataset, write_volume

TWO_MM = PrepareSettings((2.0, 2.0, 2.0))
PATCH = (32, 32, 32)
BODY = ellipsoid()
NOTHING = np.zeros_like(BODY)


def prepared(dataset: Path, settings: PrepareSettings = TWO_MM) -> StoredVolume | VolumeRefused:
    (source,) = find_volumes(dataset, use_masks=settings.use_masks)
    return prepare_volume(source, dataset / "prepared", settings)


def test_values_are_normalised_over_unaltered_body_and_cropped_to_it(tmp_path: Path) -> None:
    altered = cap(BODY)
    image = texture(BODY)
    image[altered] = 10_000
    write_volume(tmp_path, "v", image, BODY, altered)
    volume = prepared(tmp_path)
    assert isinstance(volume, StoredVolume)
    # 10 mm of margin do not fit: the whole volume stays, so the masks can be compared voxel by voxel.
    assert volume.shape == SHAPE
    values, body, is_altered = volume.read((0, 0, 0), SHAPE)
    assert np.array_equal(body, BODY)
    assert np.array_equal(is_altered, altered)
    true = image[BODY & ~altered].astype(np.float64)
    assert values[body & ~is_altered].mean() == pytest.approx(0, abs=2e-3)
    assert values[20, 30, 20] == pytest.approx((image[20, 30, 20] - true.mean()) / true.std(), abs=2e-3)
    assert volume.air == pytest.approx((2 - true.mean()) / true.std(), abs=0.02)


def test_other_orientations_of_a_file_are_the_same_volume(tmp_path: Path) -> None:
    folder = write_volume(tmp_path, "v", texture(BODY), BODY, cap(BODY))
    first = prepared(tmp_path)
    assert isinstance(first, StoredVolume)
    straight = first.read((0, 0, 0), SHAPE)
    for path in folder.glob("*.nii.gz"):
        image = nib.load(path)
        turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        content = np.asarray(turned.dataobj).copy()
        nib.save(nib.Nifti1Image(content, turned.affine), path)
    second = prepared(tmp_path)
    assert isinstance(second, StoredVolume)
    for before, after in zip(straight, second.read((0, 0, 0), SHAPE), strict=True):
        assert np.array_equal(before, after)


def test_a_wide_field_of_view_is_cropped_and_resampled(tmp_path: Path) -> None:
    body = np.zeros((60, 80, 70), np.bool_)
    body[20:40, 30:60, 20:60] = True
    write_volume(tmp_path, "v", texture(body), body, np.zeros_like(body), spacing_mm=(3.0, 1.0, 2.0))
    volume = prepared(tmp_path)
    assert isinstance(volume, StoredVolume)
    # Body of 20 x 30 x 40 voxels, and 3, 10 and 5 of margin on each side.
    assert volume.shape == (round(26 * 3 / 2), round(50 / 2), 50)
    _, mask, _ = volume.read((0, 0, 0), volume.shape)
    assert mask.sum() * 8 == pytest.approx(body.sum() * 6, rel=0.08)
    assert np.argwhere(mask).min(0) == pytest.approx([3 * 3 / 2, 5, 5], abs=1)


def test_axes_follow_the_plans(tmp_path: Path) -> None:
    write_volume(tmp_path, "v", texture(BODY), BODY, NOTHING)
    volume = prepared(tmp_path, PrepareSettings((2.0, 2.0, 2.0), transpose=(2, 0, 1)))
    assert isinstance(volume, StoredVolume)
    assert volume.shape == (SHAPE[2], SHAPE[0], SHAPE[1])


def test_ct_takes_the_numbers_of_the_plans(tmp_path: Path) -> None:
    image = texture(BODY)
    write_volume(tmp_path, "v", image, BODY, NOTHING)
    volume = prepared(tmp_path, PrepareSettings((2.0, 2.0, 2.0), normalisation=Normalisation(50, 150, 90, 20)))
    assert isinstance(volume, StoredVolume)
    values, _, _ = volume.read((0, 0, 0), SHAPE)
    assert values == pytest.approx((np.clip(image, 50, 150) - 90) / 20, abs=2e-3)


def test_what_is_prepared_is_kept_until_contents_or_settings_change(tmp_path: Path) -> None:
    folder = write_volume(tmp_path, "v", texture(BODY), BODY, NOTHING)
    first = prepared(tmp_path)
    assert isinstance(first, StoredVolume)
    times = [path.stat().st_mtime_ns for path in sorted(first.folder.iterdir())]
    again = prepared(tmp_path)
    assert isinstance(again, StoredVolume)
    assert [path.stat().st_mtime_ns for path in sorted(again.folder.iterdir())] == times
    (folder / "image.nii.gz").unlink()
    nib.save(nib.Nifti1Image(texture(BODY, 5).transpose(2, 1, 0), np.diag([-2, -2, 2, 1])), folder / "image.nii.gz")
    changed = prepared(tmp_path)
    assert isinstance(changed, StoredVolume)
    assert changed.sha256 != first.sha256
    assert PrepareSettings((1.0, 2.0, 2.0)).key != TWO_MM.key


@pytest.mark.parametrize(
    ("code", "image", "body", "altered"),
    [
        ("no-body", texture(BODY), NOTHING, NOTHING),
        ("not-finite", np.where(BODY, np.nan, 0).astype(np.float32), BODY, NOTHING),
        ("mostly-altered", texture(BODY), BODY, cap(BODY, 30)),
        ("constant", np.where(BODY, 7, 0).astype(np.float32), BODY, NOTHING),
        ("shapes-differ", texture(BODY)[1:], BODY, NOTHING),
        ("not-three-dimensional", np.stack([texture(BODY)] * 2), BODY, NOTHING),
    ],
)
def test_each_refusal_has_a_name(
    tmp_path: Path, code: str, image: np.ndarray, body: np.ndarray, altered: np.ndarray
) -> None:
    write_volume(tmp_path, "v", image, body, altered)
    refused = prepared(tmp_path)
    assert isinstance(refused, VolumeRefused)
    assert refused.reason_code == code
    again = prepared(tmp_path)
    assert isinstance(again, VolumeRefused)
    assert again.args == refused.args


def test_a_damaged_file_is_one_refusal_and_the_others_are_prepared(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3)
    image = tmp_path / "volumes/v1/image.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    small = np.zeros((9, 9, 9), np.bool_)
    small[2:7, 2:7, 2:7] = True
    write_volume(tmp_path, "small", texture(small), small, np.zeros_like(small), spacing_mm=(1.0, 1.0, 1.0))
    result = prepare_dataset(tmp_path, TWO_MM, PATCH)
    assert [volume.id for volume in result.volumes] == ["v0", "v2"]
    assert {name: refused.reason_code for name, refused in result.refused.items()} == {
        "small": "too-small",
        "v1": "unreadable",
    }


def test_a_folder_without_masks_needs_the_option(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 1)
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "data/volumes/v0/image.nii.gz").rename(images / "Kopf ü.nii.gz")
    with pytest.raises(DatasetRefused, match=r"no masks.*--no-masks"):
        find_volumes(images, use_masks=True)
    result = prepare_dataset(images, PrepareSettings((2.0, 2.0, 2.0), use_masks=False), PATCH)
    (volume,) = result.volumes
    assert volume.shape == SHAPE
    _, body, altered = volume.read((0, 0, 0), SHAPE)
    assert body.all()
    assert not altered.any()


def test_two_files_of_one_name_are_two_volumes(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number, name in enumerate(("head.nii", "head.nii.gz", "a/head.nii", "a-head.nii")):
        save_nifti(images / name, texture(BODY, number)[number:])
    result = prepare_dataset(images, PrepareSettings((2.0, 2.0, 2.0), use_masks=False), PATCH)
    assert len({volume.id for volume in result.volumes}) == 4
    for volume in result.volumes:
        image, _, _ = volume.read((0, 0, 0), volume.shape)
        assert image.shape == volume.shape


@pytest.mark.parametrize(
    ("code", "image", "voxel_mm"),
    [
        ("unreadable", np.zeros((9, 9, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")]), 2.0),
        ("unreadable", np.ones((9, 9, 9), np.complex64), 2.0),
        ("too-large", texture(BODY), 2000.0),  # a size in micrometres
    ],
)
def test_an_odd_image_is_one_refusal(tmp_path: Path, code: str, image: np.ndarray, voxel_mm: float) -> None:
    save_nifti(tmp_path / "good.nii", texture(BODY))
    save_nifti(tmp_path / "odd.nii", image, voxel_mm)
    result = prepare_dataset(tmp_path, PrepareSettings((2.0, 2.0, 2.0), use_masks=False), PATCH)
    assert [volume.id for volume in result.volumes] == ["good"]
    assert result.refused["odd"].reason_code == code


def save_nifti(path: Path, image: np.ndarray, voxel_mm: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image.transpose(2, 1, 0), np.diag([-voxel_mm, -voxel_mm, voxel_mm, 1])), path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetRefused, match="holds no volumes"):
        find_volumes(tmp_path, use_masks=True)


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1)
    # A device that is always full stands for the disk: writing into it fails as on a full one.
    import pretraining.prepare as module

    place = tmp_path / "prepared"
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        return original(Path("/dev/full"), content) if path.name == module.MASKS else original(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DiskFullError, match="no space left"):
            prepare_dataset(tmp_path, TWO_MM, PATCH)
    assert list((place / TWO_MM.key).iterdir()) == []
    assert len(prepare_dataset(tmp_path, TWO_MM, PATCH).volumes) == 1

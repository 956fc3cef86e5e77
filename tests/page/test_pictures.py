"""Pictures of series: masks lie where the SEG has them, and are kept only as long as the images."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_node.page.errors import NoPictureError
from dicom_node.page.pictures import Pictures, draw
from dicom_node.page.volumes import read_volumes, seen_job
from dicom_node.store import Store
from dicom_node.stored_volumes import SeenVolume
from inference.series.assemble import assemble_volumes
from tests.export.clearing import NOW
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.page.heads import head, look_at_heads, receive_head
from tests.page.serving import Reader, serve_page

CUT = head("cut", has_face=False, step=3)
UID = CUT.series_instance_uid


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("pictures")) as opened, pytest.MonkeyPatch.context() as patched:
        receive_head(opened, CUT)
        assert look_at_heads(opened, patched, {}) == 1
        yield opened


def image_of(content: bytes) -> tuple[NDArray[Any], NDArray[np.float64]]:
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    return np.asarray(image.dataobj), image.affine


def test_masks_are_read_back_from_the_seg_voxel_by_voxel(store: Store) -> None:
    (seen,) = read_volumes(store, seen_job(store, UID))
    body = seen.source.volume.array > 60  # what stands in for the networks marks as body
    assert np.array_equal(seen.foreground, body)
    first = np.flatnonzero(body.any(axis=(0, 2)))[0]
    meant = np.zeros_like(body)
    meant[:, : first + 4, 10:-10] = True
    assert np.array_equal(seen.anonymized, meant & ~body)
    assert seen.report["verdict"] == "indeterminate"


def test_volume_and_masks_lie_where_the_series_lies(store: Store) -> None:
    pictures = Pictures(store)
    grey, affine = image_of(pictures.get(UID, "volume.nii.gz"))
    labels, its_affine = image_of(pictures.get(UID, "masks.nii.gz"))
    assert grey.shape == labels.shape == CUT.volume.spatial_shape
    assert np.array_equal(affine, its_affine)
    sent = np.argwhere(CUT.volume.array > 300)[::97]
    places_mm = np.diag([-1.0, -1.0, 1.0, 1.0]) @ CUT.volume.affine @ np.c_[sent, np.ones(len(sent))].T
    shown = np.rint(np.linalg.inv(affine) @ places_mm)[:3].T.astype(int)
    assert np.corrcoef(CUT.volume.array[tuple(sent.T)], grey[tuple(shown.T)])[0, 1] > 0.99
    assert set(np.unique(labels)) == {0, 1, 2}
    assert grey[labels == 1].mean() > 20 > grey[labels == 2].mean()


def test_large_volumes_are_halved_about_their_blocks() -> None:
    series = ct_series(n_slices=3, rows=300, columns=260, spacing_mm=(2.0, 0.5, 0.5))
    (source,) = assemble_volumes(list(series))
    mask = np.zeros(source.volume.spatial_shape, dtype=np.bool_)
    mask[:, 100:200, 100:200] = True
    labels, affine = image_of(draw(SeenVolume(source, mask, mask, {}))["masks.nii.gz"])
    assert labels.shape == (3, 150, 130)
    assert np.argwhere(labels == 2).min(axis=0).tolist() == [0, 50, 50]
    first_block_mm = affine @ [0, 0, 0, 1]
    meant_mm = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.volume.affine @ [0, 0.5, 0.5, 1]
    assert np.allclose(first_block_mm, meant_mm)


def test_pictures_are_made_once_and_deleted_with_the_images(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(store)
    first = pictures.all_of(UID)
    monkeypatch.setattr("dicom_node.page.pictures.read_volumes", None)  # is not called again
    assert pictures.all_of(UID) == first
    kept = list(Path(store.data_dir).glob("derived/*/*.pictures.z"))
    assert len(kept) == 1
    digest = kept[0].name.partition(".")[0]
    assert digest == store.series.instances(UID)[0].digest
    aside = store.objects.path(digest).read_bytes()
    store.objects.remove(digest)
    assert not kept[0].exists()
    store.objects.path(digest).write_bytes(aside)


def test_overlay_and_thumbnail_come_over_http(store: Store) -> None:
    with serve_page(store) as url, Reader(url) as reader:
        overlay = reader.get(f"/series/{UID}/pictures/1/overlay.png")
        thumbnail = reader.get(f"/series/{UID}/pictures/1/thumbnail.jpg")
        assert (overlay.headers["content-type"], overlay.headers["cache-control"]) == (
            "image/png",
            "private, max-age=600",
        )
        for path, status in (("2/overlay.png", 404), ("1/x.png", 404), ("x/overlay.png", 400), ("1/..%2fx", 404)):
            assert reader.get(f"/series/{UID}/pictures/{path}").status_code == status
        assert reader.get("/series/1.2.3/pictures/1/overlay.png").status_code == 404
    assert Image.open(BytesIO(overlay.content)).width > 1000
    assert len(thumbnail.content) < 10_000


def test_a_series_that_no_model_has_seen_has_no_picture(store: Store) -> None:
    whole = head("unseen", has_face=True, step=8)
    receive_head(store, whole, at=NOW)
    with pytest.raises(NoPictureError, match="no model has seen what is there now"):
        Pictures(store).all_of(whole.series_instance_uid)

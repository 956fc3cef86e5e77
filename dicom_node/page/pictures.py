"""Pictures of a series: an overlay, a thumbnail, and volumes that a browser shows in planes and from outside.

They are made once, when somebody asks for them, and kept beside the objects of the store: next to the first instance of
the series, so that they are deleted when that is. A volume for the browser has at most 256 voxels along each axis, and
grey values of the overlay's window: enough to recognise a face, and small enough to be there at once.
"""

from __future__ import annotations

import gzip
import threading
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.overlay import MARGIN_PX, PANEL_PX, draw_overlay, window
from dicom_node.page.errors import NoPictureError, PicturesBusyError
from dicom_node.page.volumes import read_volumes, seen_job
from dicom_node.report import caption
from dicom_node.store import JobRow, Store
from dicom_node.stored_volumes import SeenVolume

LONGEST_AXIS: Final = 256  # voxels
THUMBNAIL_PX: Final = (240, 80)
PLANE_PX: Final = 100  # half of what a plane has at least on a screen
WAIT_S: Final = 30.0  # for the pictures of another series
KIND: Final = ".pictures"
TYPES: Final[Mapping[str, str]] = {
    "overlay.png": "image/png",
    "thumbnail.jpg": "image/jpeg",
    "volume.nii.gz": "application/octet-stream",
    "masks.nii.gz": "application/octet-stream",
}
_NEIGHBOURS: Final = (slice(1, None), slice(None, -1))
_FORM: Final = "pictures 3, job {job_id}"
_EDGE, _ANONYMIZED = 1, 2  # labels in masks.nii.gz: the foreground is outlined, as in the overlay


class Pictures:
    """Pictures of series that a model has seen; one series is worked on at a time, since it takes memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def get(self, series_instance_uid: str, name: str, *, stack_number: int = 1) -> bytes:
        """Return one picture of a volume.

        Parameters
        ----------
        name
            One of `TYPES`.

        Raises
        ------
        NoPictureError
            No model has seen the series as it is now, or it cannot be shown.
        PicturesBusyError
            Another series takes long.
        """
        packed = self.all_of(series_instance_uid)
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            try:
                return archive.read(f"{stack_number}/{name}")
            except KeyError:
                raise NoPictureError(series_instance_uid, f"it has no volume {stack_number}") from None

    def all_of(self, series_instance_uid: str) -> bytes:
        """Return all pictures of a series, packed, as they are kept; make them if they are not there."""
        store, job = self._store, seen_job(self._store, series_instance_uid)
        kept = self._kept(job)
        if kept is not None:
            return kept
        if not self._lock.acquire(timeout=WAIT_S):
            raise PicturesBusyError
        try:
            kept = self._kept(job)  # perhaps somebody else asked for them too
            if kept is None:
                kept = pack(read_volumes(store, job))
                store.objects.keep_derived(self._first_digest(job), _form(job), kept, kind=KIND)
        finally:
            self._lock.release()
        return kept

    def _kept(self, job: JobRow) -> bytes | None:
        return self._store.objects.read_derived(self._first_digest(job), _form(job), kind=KIND)

    def _first_digest(self, job: JobRow) -> str:
        rows = self._store.series.instances(job.series_instance_uid, generation=job.generation)
        if not rows:
            raise NoPictureError(job.series_instance_uid, "its received instances are gone")
        return rows[0].digest


def _form(job: JobRow) -> bytes:
    return _FORM.format(job_id=job.id).encode()


def pack(volumes: list[SeenVolume]) -> bytes:
    """Return the pictures of the volumes of a series, as a zip: ``1/overlay.png`` and so on."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for volume in volumes:
            for name, content in draw(volume).items():
                archive.writestr(f"{volume.source.stack_number}/{name}", content)
    return packed.getvalue()


def draw(seen: SeenVolume) -> dict[str, bytes]:
    """Return the pictures of one volume, by name."""
    volume, report = seen.source.volume, seen.report
    lines = caption(report) if {"verdict", "probability", "foreground_ml", "anonymized_ml"} <= set(report) else ()
    overlay = draw_overlay(volume, seen.foreground, seen.anonymized, modality=seen.source.modality, caption=lines)
    low, high = window(volume.array, seen.foreground, modality=seen.source.modality)
    factors = tuple(-(-size // LONGEST_AXIS) for size in volume.spatial_shape)
    grey = _reduced(np.nan_to_num(volume.array, nan=low), factors)
    shown = np.clip((grey - low) * (255.0 / (high - low)), 0.0, 255.0).round().astype(np.uint8)
    labels = np.where(_edge(_reduced(seen.foreground, factors) >= 0.5), _EDGE, 0).astype(np.uint8)
    labels[_reduced(seen.anonymized, factors) >= 0.5] = _ANONYMIZED
    affine = _reduced_affine(volume.affine, factors)
    return {
        "overlay.png": overlay,
        "thumbnail.jpg": _thumbnail(overlay),
        "volume.nii.gz": _nifti(shown, affine),
        "masks.nii.gz": _nifti(labels, affine),
    }


def _reduced(array: NDArray[np.float32] | NDArray[np.bool_], factors: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the means of blocks; what does not fill a block at the end of an axis is left out."""
    if all(factor == 1 for factor in factors):
        return array.astype(np.float32)
    sizes = [size // factor for size, factor in zip(array.shape, factors, strict=True)]
    cropped = array[tuple(slice(size * factor) for size, factor in zip(sizes, factors, strict=True))]
    blocks = cropped.reshape(*(part for pair in zip(sizes, factors, strict=True) for part in pair))
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the outer voxels of a mask, as many as can be seen in a plane; beyond the array nothing counts."""
    inner = mask
    for _ in range(max(1, round(max(mask.shape) / PLANE_PX))):
        outside, inner = inner, inner.copy()
        for axis in range(3):
            first, last = (tuple(part if one == axis else slice(None) for one in range(3)) for part in _NEIGHBOURS)
            inner[first] &= outside[last]
            inner[last] &= outside[first]
    return mask & ~inner


def _reduced_affine(affine: NDArray[np.float64], factors: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the affine of blocks: the centre of the first one, and steps of whole blocks."""
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = [(factor - 1) / 2 for factor in factors]
    return affine @ scale


def _nifti(array: NDArray[np.uint8], lps_affine: NDArray[np.float64]) -> bytes:
    """Return a compressed NIfTI file; its axes are those of the array, its space is RAS."""
    ras_affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_affine
    new_image: Any = nibabel.Nifti1Image  # nibabel has no types
    image = new_image(array, ras_affine)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return gzip.compress(content, 1, mtime=0)


def _thumbnail(overlay: bytes) -> bytes:
    """Return the slices of an overlay without the words below them, small."""
    with Image.open(BytesIO(overlay)) as image:
        picture = image.convert("RGB").crop((0, 0, image.width, PANEL_PX + 2 * MARGIN_PX))
    picture.thumbnail(THUMBNAIL_PX, Image.Resampling.LANCZOS)
    jpeg = BytesIO()
    picture.save(jpeg, format="JPEG", quality=80)
    return jpeg.getvalue()

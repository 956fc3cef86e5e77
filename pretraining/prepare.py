"""Prepare a volume once: crop to the body, resample, normalise over unaltered body, write, completely or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pretraining.body_table import BodyTable
from pretraining.dataset import (
    IMAGE,
    MASKS,
    RECORD,
    TABLE,
    Shape,
    StoredVolume,
    encode_array,
    encode_masks,
    read_record,
)
from pretraining.errors import VolumeRefused
from pretraining.sources import LoadedVolume, SourceVolume, content_digest, read_volume

FORMAT: Final = 1  # raise it when prepared files change
MAX_ALTERED_SHARE: Final = 0.5  # of the body; air that a tool cut off does not count
MARGIN_MM: Final = 10.0  # around the body
MAX_VOXELS: Final = 2**31  # of a prepared volume: 8 GiB in float32; a whole body at 1 mm has an eighth of that
_ORDER: Final = 3  # of the spline, as nnU-Net resamples

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How values are normalised: z-score over unaltered body, or the fixed numbers that plans have for CT.

    Attributes
    ----------
    lowest, highest
        Values are cut off there first; None: they are not.
    mean, deviation
        None: those of each volume.
    """

    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    deviation: float | None = None


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What decides the prepared files, apart from the volumes.

    Attributes
    ----------
    spacing_mm
        Along the axes of the prepared volume.
    transpose
        Which axis of (slice, row, column) each axis of the prepared volume is; ``transpose_forward`` of the plans.
    """

    spacing_mm: tuple[float, float, float]
    transpose: tuple[int, int, int] = (0, 1, 2)
    use_masks: bool = True
    normalisation: Normalisation = Normalisation()

    @property
    def key(self) -> str:
        """Digest, for the folder's name."""
        told = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def prepare_volume(source: SourceVolume, folder: Path, settings: PrepareSettings) -> StoredVolume | VolumeRefused:
    """Return the prepared volume, made now or earlier from the same contents; or why it must not be used.

    Raises
    ------
    OSError
        Files cannot be written.
    """
    place = folder / source.id
    digest = content_digest(source)
    record = read_record(place)
    if record is None or record.get("sha256") != digest:
        try:
            record, files = _prepared(source, settings)
        except VolumeRefused as refused:
            record, files = {"refused": list(refused.args)}, {}
        record = {"id": source.id, "sha256": digest, **record}
        _write(place, {**files, RECORD: (json.dumps(record, indent=2) + "\n").encode()})
    if "refused" in record:
        return VolumeRefused(*record["refused"])
    return StoredVolume(place, record)


def _prepared(source: SourceVolume, settings: PrepareSettings) -> tuple[dict[str, Any], dict[str, bytes]]:
    loaded = read_volume(source)
    whole = np.ones(loaded.voxels.shape, np.bool_)
    body = whole if loaded.body is None else loaded.body
    altered = ~whole if loaded.altered is None else loaded.altered
    altered_share = _check(loaded.voxels, body, altered)
    image, body, altered = _resampled(loaded, body, altered, settings)
    useful = body & ~altered
    if not useful.any():
        raise VolumeRefused("no-body", f"no unaltered body is left at a voxel size of {_mm(settings.spacing_mm)} mm")
    image, air = _normalised(image, body, useful, settings.normalisation)
    table = io.BytesIO()
    np.save(table, BodyTable.of(useful).sums)
    record = {
        "shape": list(image.shape),
        "spacing_mm": list(settings.spacing_mm),
        "air": air,
        "body_share": float(body.mean()),
        "altered_share": altered_share,
    }
    files = {
        IMAGE: encode_array(image.astype(np.float16)),
        MASKS: encode_array(encode_masks(body, altered)),
        TABLE: table.getvalue(),
    }
    return record, files


def _check(voxels: NDArray[np.float32], body: Mask, altered: Mask) -> float:
    """Return the altered share of body and altered area; raise if no network should learn from the volume."""
    if not body.any():
        raise VolumeRefused("no-body", "the mask of the body is empty")
    if n_lost := int(np.count_nonzero(~np.isfinite(voxels))):
        raise VolumeRefused("not-finite", f"{n_lost} voxels hold no finite number")
    in_body = float(np.count_nonzero(altered & body) / np.count_nonzero(body))
    if in_body > MAX_ALTERED_SHARE:
        raise VolumeRefused(
            "mostly-altered",
            f"{in_body:.0%} of the body's voxels are altered, at most {MAX_ALTERED_SHARE:.0%} may be",
        )
    true_values = voxels[body & ~altered]
    if not true_values.size or true_values.min() == true_values.max():
        raise VolumeRefused("constant", "all unaltered voxels of the body have the same value")
    return float(np.count_nonzero(altered) / np.count_nonzero(body | altered))


def _resampled(
    loaded: LoadedVolume, body: Mask, altered: Mask, settings: PrepareSettings
) -> tuple[NDArray[np.float32], Mask, Mask]:
    """Return image and masks, cropped to the body with a margin, on the wanted axes and voxels.

    Splines as nnU-Net's; a voxel is body if half of what it is interpolated from is, and altered if anything of it is.
    """
    box = _body_box(body, loaded.spacing_mm)
    image = loaded.voxels[box].transpose(settings.transpose)
    body, altered = body[box].transpose(settings.transpose), altered[box].transpose(settings.transpose)
    spacing_mm = [loaded.spacing_mm[axis] for axis in settings.transpose]
    shape = [
        max(1, round(n * old / new)) for n, old, new in zip(image.shape, spacing_mm, settings.spacing_mm, strict=True)
    ]
    if math.prod(shape) > MAX_VOXELS:
        size = " x ".join(map(str, shape))
        told = f"its body would take {size} voxels; is its voxel size of {_mm(spacing_mm)} mm right?"
        raise VolumeRefused("too-large", told)
    if shape == list(image.shape):
        return image, body, altered
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]

    def zoom(array: NDArray[Any], order: int) -> NDArray[np.float32]:
        resampled: NDArray[np.float32] = ndimage.zoom(
            array.astype(np.float32), factors, order=order, mode="nearest", grid_mode=True
        )
        return resampled

    resampled = np.clip(zoom(image, _ORDER), image.min(), image.max())
    return resampled, zoom(body, 1) >= 0.5, zoom(altered, 1) > 1e-3


def _body_box(body: Mask, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    box = []
    for axis, spacing in enumerate(spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(body.any(others))
        margin = round(MARGIN_MM / spacing)
        box.append(slice(max(0, int(planes[0]) - margin), int(planes[-1]) + 1 + margin))
    return box[0], box[1], box[2]


def _normalised(
    image: NDArray[np.float32], body: Mask, useful: Mask, settings: Normalisation
) -> tuple[NDArray[np.float32], float]:
    """Return normalised values, and the median of air, or the lowest value if there is no air."""
    if settings.lowest is not None or settings.highest is not None:
        image = np.clip(image, settings.lowest, settings.highest)
    values = image[useful].astype(np.float64)
    mean = float(values.mean()) if settings.mean is None else settings.mean
    deviation = float(values.std()) if settings.deviation is None else settings.deviation
    if not deviation > 0:
        raise VolumeRefused("constant", "all unaltered voxels of the body have the same value")
    normalised = ((image - mean) / deviation).astype(np.float32)
    limit = float(np.finfo(np.float16).max)
    normalised = np.clip(normalised, -limit, limit)
    air = normalised[~body]
    return normalised, float(np.median(air)) if air.size else float(normalised.min())


def _write(place: Path, files: dict[str, bytes]) -> None:
    """Write the files of a volume into a folder that appears when it is complete."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(exist_ok=True)
        for name, content in files.items():
            (partial / name).write_bytes(content)
        if place.exists():
            shutil.rmtree(place)
        try:
            partial.replace(place)
        except OSError:
            # Another run has just prepared the same volume; whichever came first is as good.
            if read_record(place) is None:
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{spacing:g}" for spacing in spacing_mm)


def selectable(volume: StoredVolume, patch: Shape) -> VolumeRefused | None:
    """Return why a prepared volume is too small for a patch, or None."""
    if all(4 * side >= wanted for side, wanted in zip(volume.shape, patch, strict=True)):
        return None
    shape, size = (" x ".join(map(str, sides)) for sides in (volume.shape, patch))
    return VolumeRefused(
        "too-small", f"its body takes {shape} voxels; each side must be a quarter of the patch of {size} or more"
    )

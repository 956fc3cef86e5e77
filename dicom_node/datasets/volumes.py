"""Write one volume of a dataset: image, both masks, labels, picture and record, completely or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.datasets.errors import VolumeRefused
from dicom_node.datasets.facts import Facts, Mask, check, measure
from dicom_node.offline.replacing import replacing
from dicom_node.overlay import draw_overlay
from inference.series.nifti_masks import write_nifti_volume
from inference.series.volume import SourceVolume

FORMAT: Final = 1  # raise it when the files of a volume change, so that they are written again
IMAGE, ALTERED, BACKGROUND, LABELS = "image.nii.gz", "altered.nii.gz", "background.nii.gz", "labels.nii.gz"
PICTURE, RECORD = "overlay.png", "volume.json"
FILES: Final = (IMAGE, ALTERED, BACKGROUND, LABELS, PICTURE)
BODY_LABEL, ALTERED_LABEL = 1, 2
ID_DIGITS: Final = 16
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """Why a volume is not in the dataset; ``picture`` shows it where it could be read."""

    code: str
    reason: str
    picture: bytes | None = None


def finished_record(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the record of a volume that an earlier run wrote from the same contents, else None."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    is_same = isinstance(record, dict) and record.get("key") == key
    return record if is_same and all((folder / name).is_file() for name in FILES) else None


def write_volume(
    folder: Path, source: SourceVolume, body: Mask, altered: Mask, *, key: str, told: Mapping[str, Any]
) -> dict[str, Any] | Refusal:
    """Check a volume, write its folder and return its record, or why it is refused.

    Parameters
    ----------
    folder
        Its name is the ID of the volume.
    body, altered
        (slice, row, column) on the grid of the volume.
    key
        Digest of all that decides the files, by which `finished_record` knows them again.
    told
        What else the record says: where the volume is from.
    """
    voxels = source.volume.array
    facts = measure(voxels, body, altered, source.missing)
    spacing_mm = tuple(float(spacing) for spacing in source.volume.spacing)
    picture = _picture(source, body, altered, facts)
    try:
        check(facts, voxels, body, altered, source.missing, spacing_mm)
    except VolumeRefused as refused:
        return Refusal(refused.reason_code, str(refused), picture)
    geometry = source.volume.get_geometry()
    stored = _stored(voxels)
    background = ~body
    with replacing(folder) as partial:
        write_nifti_volume(partial / IMAGE, stored, geometry)
        write_nifti_volume(partial / ALTERED, altered.astype(np.uint8), geometry)
        write_nifti_volume(partial / BACKGROUND, background.astype(np.uint8), geometry)
        write_nifti_volume(partial / LABELS, _labels(body, altered), geometry)
        (partial / PICTURE).write_bytes(picture)
        record = {
            "id": folder.name,
            "key": key,
            **told,
            "modality": source.modality or "unknown",
            "shape": list(voxels.shape),
            "spacing_mm": [round(spacing, 6) for spacing in spacing_mm],
            "dtype": str(stored.dtype),
            "n_voxels": facts.n_voxels,
            "n_body": facts.n_body,
            "n_altered": facts.n_altered,
            "n_altered_body": facts.n_altered_body,
            "n_without_number": facts.n_missing,
            "altered_share": round(facts.altered_share, 6),
            "ones": {
                "anonymization_mask": round(facts.n_altered / facts.n_voxels, 9),
                "anatomy_mask": round(1 - facts.n_body / facts.n_voxels, 9),
            },
            "exact_zero_air": round(facts.n_zero_air / float(np.prod(facts.crop_shape)), 6),
            "sha256": {name: hashlib.sha256((partial / name).read_bytes()).hexdigest() for name in FILES},
        }
        (partial / RECORD).write_bytes(encode_json(record))
    return record


def encode_json(content: object) -> bytes:
    """Return JSON for people and programs; the same content gives the same bytes."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _stored(voxels: NDArray[np.float32]) -> NDArray[Any]:
    """Return the voxels as int16 if that loses nothing, else as they are."""
    if voxels.min() < _INT16.min or voxels.max() > _INT16.max:
        return voxels
    whole = voxels.astype(np.int16)
    return whole if np.array_equal(whole, voxels) else voxels


def _labels(body: Mask, altered: Mask) -> NDArray[np.uint8]:
    labels = body.astype(np.uint8) * np.uint8(BODY_LABEL)
    labels[altered] = ALTERED_LABEL
    return labels


def _picture(source: SourceVolume, body: Mask, altered: Mask, facts: Facts) -> bytes:
    body_share = facts.n_body / facts.n_voxels
    caption = f"body: {body_share:.1%} of all voxels · altered: {facts.altered_share:.1%} of body and altered area"
    return draw_overlay(source.volume, body, altered, modality=source.modality, caption=(caption,))

"""What a volume and its two masks are, in numbers, and whether a network may learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.datasets.errors import VolumeRefused

Mask = NDArray[np.bool_]

# Of the body's voxels. Altered air does not count: tools that cut by a plane set half of a field of view to zero, and
# what they leave of the head is as it was.
MAX_ALTERED_SHARE: Final = 0.5
# nnssl loses an image without a word if no side of it is longer, in voxels or, resampled to 1 mm, in millimetres.
LONGEST_SIDE: Final = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers of one volume.

    Attributes
    ----------
    n_missing
        Voxels without a number in the source; they hold the value of air.
    n_zero_air
        Voxels outside the filled shape of what is not exactly zero, but inside its bounding box: nnU-Net and nnssl
        crop to that box and mark these voxels as -1 in a mask that is 0 there.
    crop_shape
        Size of that bounding box.
    """

    n_voxels: int
    n_body: int
    n_altered: int
    n_altered_body: int
    n_missing: int
    n_zero_air: int
    crop_shape: tuple[int, int, int]

    @property
    def altered_share(self) -> float:
        """Altered voxels per voxel of body and altered area together."""
        either = self.n_body + self.n_altered - self.n_altered_body
        return self.n_altered / either if either else 0.0


def measure(voxels: NDArray[np.float32], body: Mask, altered: Mask, missing: Mask | None) -> Facts:
    """Count what the checks and the report need; arrays are (slice, row, column) on one grid."""
    n_zero_air, crop_shape = _zero_air(voxels)
    return Facts(
        n_voxels=voxels.size,
        n_body=int(np.count_nonzero(body)),
        n_altered=int(np.count_nonzero(altered)),
        n_altered_body=int(np.count_nonzero(body & altered)),
        n_missing=0 if missing is None else int(np.count_nonzero(missing)),
        n_zero_air=n_zero_air,
        crop_shape=crop_shape,
    )


def check(
    facts: Facts,
    voxels: NDArray[np.float32],
    body: Mask,
    altered: Mask,
    missing: Mask | None,
    spacing_mm: tuple[float, ...],
) -> None:
    """Raise if no network should learn from the volume.

    Raises
    ------
    VolumeRefused
        ``no-body``, ``not-finite``, ``mostly-altered``, ``constant`` or ``too-small``.
    """
    if not facts.n_body:
        raise VolumeRefused("no-body", "the body was not found in it; look at its overlay")
    if missing is not None and (n_lost := int(np.count_nonzero(_touching(missing, body) & ~altered))):
        raise VolumeRefused("not-finite", f"{n_lost} voxels in or at the body hold no finite number")
    if (share := facts.n_altered_body / facts.n_body) > MAX_ALTERED_SHARE:
        raise VolumeRefused(
            "mostly-altered", f"{share:.0%} of the body's voxels are altered, at most {MAX_ALTERED_SHARE:.0%} may be"
        )
    true_values = voxels[body & ~altered]
    if not true_values.size or true_values.min() == true_values.max():
        raise VolumeRefused("constant", "all unaltered voxels of the body have the same value")
    sides_mm = tuple(n * spacing for n, spacing in zip(facts.crop_shape, spacing_mm, strict=True))
    if max(facts.crop_shape) <= LONGEST_SIDE or max(sides_mm) <= LONGEST_SIDE:
        raise VolumeRefused(
            "too-small",
            f"its longest side is {max(facts.crop_shape)} voxels or {max(sides_mm):.0f} mm, without margins that are "
            f"exactly zero; nnssl needs more than {LONGEST_SIDE} of both",
        )


def _touching(missing: Mask, body: Mask) -> Mask:
    """Return the missing voxels in the body or next to it."""
    touching: Mask = missing & ndimage.binary_dilation(body)
    return touching


def _zero_air(voxels: NDArray[np.float32]) -> tuple[int, tuple[int, int, int]]:
    """Return the number of voxels outside the filled non-zero shape but in its bounding box, and the box's size."""
    if not voxels.any():
        return 0, (0, 0, 0)
    _, outside = nonzero_box(voxels)
    return int(np.count_nonzero(outside)), (outside.shape[0], outside.shape[1], outside.shape[2])


def nonzero_box(voxels: NDArray[np.float32]) -> tuple[tuple[slice, slice, slice], Mask]:
    """Return what nnssl and nnU-Net crop a volume to, and the voxels in there that they count as outside of it.

    Parameters
    ----------
    voxels
        At least one is not zero.
    """
    zero = voxels == 0
    labels, _ = ndimage.label(zero)
    border = np.unique(np.concatenate([labels.take((0, -1), axis).ravel() for axis in range(3)]))
    outside = np.isin(labels, border[border > 0])
    (box,) = ndimage.find_objects((~outside).astype(np.uint8))
    return box, outside[box]

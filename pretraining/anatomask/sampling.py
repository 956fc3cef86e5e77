"""Draw a patch for AnatoMask: mostly body, sometimes turned or scaled, mirrored, with enough blocks to choose from.

References
----------
Y. Li et al., AnatoMask, ECCV (2024): rotation up to 30° and scale from 0.7 to 1.4, each in a fifth of the samples, and
mirroring; intensities stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pretraining.anatomask.blocks import Side, find_roles
from pretraining.dataset import PreparedVolume
from pretraining.draws import draw_start
from pretraining.method import Sample

MOST_REDRAWS = 8  # of a patch with too few candidates
TURN_SHARE, SCALE_SHARE = 0.2, 0.2  # of samples
MOST_TURN = np.deg2rad(30.0)  # around each axis
SCALES = (0.7, 1.4)  # size of what is seen, in patches
Read = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """Draws samples with the keys ``image``, ``body`` and ``altered``, each (1, *patch).

    Attributes
    ----------
    use_masks
        If False, everything counts as body and nothing as altered, as in the published method.
    """

    patch_size: Side
    side: Side
    use_masks: bool = True
    augment: bool = True

    def __call__(self, volume: PreparedVolume, rng: np.random.Generator) -> Sample:
        """Return one sample; one with too few blocks to choose from is returned only after several redraws."""
        for _ in range(MOST_REDRAWS):
            image, body, altered = self._read(volume, rng)
            if not self.use_masks:
                body, altered = np.ones_like(body), np.zeros_like(altered)
            flipped = tuple(axis for axis in range(3) if self.augment and rng.random() < 0.5)
            sample = {
                "image": torch.from_numpy(np.flip(image, flipped).copy())[None],
                "body": torch.from_numpy(np.flip(body, flipped).copy())[None],
                "altered": torch.from_numpy(np.flip(altered, flipped).copy())[None],
            }
            if find_roles(sample["body"][None], sample["altered"][None], self.side).is_enough[0]:
                break
        return sample

    def _read(self, volume: PreparedVolume, rng: np.random.Generator) -> Read:
        start = draw_start(volume, self.patch_size, rng, use_masks=self.use_masks)
        matrix = draw_matrix(rng) if self.augment else None
        if matrix is None:
            return volume.read(start, self.patch_size)
        return read_transformed(volume, start, self.patch_size, matrix)


def draw_matrix(rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Return a (3, 3) rotation and scaling, from offsets in the patch to offsets in the volume; None for neither."""
    matrix = np.eye(3)
    is_turned, is_scaled = rng.random(2) < (TURN_SHARE, SCALE_SHARE)
    if is_turned:
        for axis, angle in enumerate(rng.uniform(-MOST_TURN, MOST_TURN, 3)):
            turn = np.eye(3)
            first, second = (other for other in range(3) if other != axis)
            turn[[first, second], [first, second]] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
    if is_scaled:
        matrix = matrix * rng.uniform(*SCALES)
    return matrix if is_turned or is_scaled else None


def read_transformed(volume: PreparedVolume, start: Side, size: Side, matrix: NDArray[np.float64]) -> Read:
    """Return a patch around the centre of a box, turned and scaled: image linearly, masks by the nearest voxel.

    Parameters
    ----------
    start, size
        The box, in voxels of the volume; ``size`` is also that of the patch.
    matrix
        (3, 3), from offsets to the patch's centre to offsets to the box's centre.
    """
    half = (np.array(size) - 1) / 2
    reach = np.abs(matrix) @ half
    centre = np.array(start) + half
    low = np.floor(centre - reach).astype(int)
    shape = np.ceil(centre + reach).astype(int) - low + 1
    image, body, altered = volume.read(_side(low), _side(shape))
    offsets = torch.stack(
        torch.meshgrid(
            *(torch.arange(n, dtype=torch.float64) - h for n, h in zip(size, half, strict=True)), indexing="ij"
        ),
        dim=-1,
    )
    places = offsets @ torch.from_numpy(matrix).T + torch.from_numpy(centre - low)
    # grid_sample wants -1 to 1 between the centres of the outermost voxels, and the last axis first.
    unit = places / torch.from_numpy((shape - 1) / 2) - 1
    grid = unit.flip(-1)[None].float()

    def sampled(array: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
        found = nn.functional.grid_sample(
            torch.from_numpy(array)[None, None], grid, mode=mode, padding_mode="border", align_corners=True
        )
        return np.asarray(found[0, 0].numpy())

    near_body, near_altered = (sampled(mask.astype(np.float32), "nearest") > 0.5 for mask in (body, altered))
    return sampled(image, "bilinear"), near_body, near_altered


def _side(values: NDArray[np.int64]) -> Side:
    first, second, third = (int(value) for value in values)
    return first, second, third

"""Make samples: two crops of a volume, fused (``grid``), or single crops, to be fused in the batch (``boxes``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pretraining.dataset import PreparedVolume, Shape
from pretraining.method import Sample
from pretraining.volume_fusion.augment import draw_crop
from pretraining.volume_fusion.coefficients import CellSizes, grid_coefficients
from pretraining.volume_fusion.fusing import fuse, fusion_weights

INVERTED_SHARE = 0.25  # of the samples


@dataclass(frozen=True, slots=True)
class GridSampler:
    """Two crops of one volume, fused in the cells of a grid: ``image``, ``classes`` and ``weights``."""

    patch: Shape
    cells: CellSizes
    use_masks: bool = True

    def __call__(self, volume: PreparedVolume, rng: np.random.Generator) -> Sample:
        """Return one fused patch."""
        first, second = (draw_crop(volume, self.patch, rng, use_masks=self.use_masks) for _ in range(2))
        images = first.image, second.image
        if rng.random() < INVERTED_SHARE:
            images = 1 - first.image, 1 - second.image
        useful = first.body & ~first.altered | second.body & ~second.altered
        drawn = grid_coefficients(self.patch, self.cells, useful[0].numpy(), rng)
        classes = torch.from_numpy(drawn)[None]
        weights = fusion_weights(classes, (first.body, second.body), (first.altered, second.altered))
        return {"image": fuse(*images, classes), "classes": classes, "weights": weights}


@dataclass(frozen=True, slots=True)
class CropSampler:
    """One crop: ``image``, ``body`` and ``altered``. The preprint fuses it with the next sample of the batch."""

    patch: Shape
    use_masks: bool = True

    def __call__(self, volume: PreparedVolume, rng: np.random.Generator) -> Sample:
        """Return one crop."""
        crop = draw_crop(volume, self.patch, rng, use_masks=self.use_masks)
        image = 1 - crop.image if rng.random() < INVERTED_SHARE else crop.image
        return {"image": image, "body": crop.body, "altered": crop.altered}

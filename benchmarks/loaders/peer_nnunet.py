"""The loader of the nnU-Net that is installed, with AnatoMask's augmentation: what a port of its script would use."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from benchmarks.loaders.measure import BATCH_SIZE, N_WORKERS, measure, tell

ANGLE = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def main(folder: str, side: int) -> None:
    """Load with two workers."""
    patch = (side, side, side)
    turn = SpatialTransform(
        patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=0,
        p_rotation=0.2,
        rotation=ANGLE,
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(folder),
        BATCH_SIZE,
        get_patch_size(patch, ANGLE, ANGLE, ANGLE, (0.85, 1.25)),
        patch,
        SimpleNamespace(all_labels=[0, 1], has_ignore_label=False),
        oversample_foreground_percent=0.33,
        transforms=ComposeTransforms([turn, MirrorTransform((0, 1, 2))]),
    )
    augmenter = NonDetMultiThreadedAugmenter(
        data_loader=loader, transform=None, num_processes=N_WORKERS, num_cached=6, wait_time=0.002
    )
    tell(measure(augmenter))
    augmenter._finish()  # noqa: SLF001 - its own way to end the workers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

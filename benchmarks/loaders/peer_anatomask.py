"""AnatoMask's loader, from a checkout on ``PYTHONPATH``: ``python -m benchmarks.loaders.peer_anatomask FOLDER PATCH``.

The checkout has an older nnU-Net of its own. Transforms are those that its pretraining script leaves switched on.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform
from batchgenerators.transforms.utility_transforms import NumpyToTensor, RemoveLabelTransform, RenameTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.data_augmentation.custom_transforms.limited_length_multithreaded_augmenter import (
    LimitedLenWrapper,
)
from nnunetv2.training.dataloading.data_loader_3d import nnUNetDataLoader3D
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDataset

from benchmarks.loaders.measure import BATCH_SIZE, N_WORKERS, measure, tell

ANGLE = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def main(folder: str, side: int) -> None:
    """Load as the pretraining script does, with two workers."""
    patch = (side, side, side)
    initial = get_patch_size(patch, ANGLE, ANGLE, ANGLE, (0.85, 1.25))
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    loader = nnUNetDataLoader3D(
        nnUNetDataset(folder), BATCH_SIZE, initial, patch, labels, oversample_foreground_percent=0.33
    )
    turn = SpatialTransform(
        patch,
        patch_center_dist_from_border=None,
        do_elastic_deform=False,
        do_rotation=True,
        angle_x=ANGLE,
        angle_y=ANGLE,
        angle_z=ANGLE,
        p_rot_per_axis=1,
        do_scale=True,
        scale=(0.7, 1.4),
        border_mode_data="constant",
        border_cval_data=0,
        order_data=3,
        border_mode_seg="constant",
        border_cval_seg=-1,
        order_seg=1,
        random_crop=False,
        p_el_per_sample=0,
        p_scale_per_sample=0.2,
        p_rot_per_sample=0.2,
        independent_scale_for_each_axis=False,
    )
    transforms = [turn, MirrorTransform((0, 1, 2)), RemoveLabelTransform(-1, 0), RenameTransform("seg", "target", True)]
    augmenter = LimitedLenWrapper(
        250,
        data_loader=loader,
        transform=Compose([*transforms, NumpyToTensor(["data", "target"], "float")]),
        num_processes=N_WORKERS,
        num_cached=6,
        wait_time=0.02,
    )
    tell(measure(augmenter))
    augmenter._finish()  # noqa: SLF001 - its own way to end the workers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

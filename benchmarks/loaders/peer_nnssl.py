"""nnssl's loaders, in its own Python: ``-m benchmarks.loaders.peer_nnssl volume-fusion|mae PATCH``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from nnssl.data.dataloading.dataset import nnSSLDatasetBlosc2
from nnssl.data.raw_dataset import Collection
from nnssl.experiment_planning.experiment_planners.plan import Plan
from nnssl.ssl_data.configure_basic_dummyDA import configure_rotation_dummyDA_mirroring_and_inital_patch_size
from nnssl.ssl_data.dataloading.data_loader_3d import nnsslAnatDataLoader3D, nnsslCenterCropDataLoader3D
from nnssl.ssl_data.limited_len_wrapper import LimitedLenWrapper
from nnssl.training.nnsslTrainer.masked_image_modeling.BaseMAETrainer import BaseMAETrainer
from nnssl.training.nnsslTrainer.volume_fusion.VolumeFusionTrainer import VolumeFusionTrainer

from benchmarks.loaders.measure import BATCH_SIZE, N_WORKERS, measure, tell

NAME, CONFIGURATION = "Dataset801_Heads", "onemmiso"


def read_dataset() -> nnSSLDatasetBlosc2:
    """Return the preprocessed heads."""
    folder = Path(os.environ["nnssl_preprocessed"], NAME)  # noqa: SIM112 - so nnssl writes it
    plan = Plan.load_from_file(str(folder / "nnsslPlans.json"))
    collection = Collection.from_dict(json.loads((folder / f"pretrain_data__{CONFIGURATION}.json").read_text()))
    subjects = [image.get_unique_subject_id() for image in collection.to_independent_images()]
    return nnSSLDatasetBlosc2(str(folder / plan.configurations[CONFIGURATION].data_identifier), collection, subjects)


def main(method: str, side: int) -> None:
    """Load as the trainer of the method does, with two workers."""
    patch = (side, side, side)
    rotation, dummy_2d, initial, mirror = configure_rotation_dummyDA_mirroring_and_inital_patch_size(patch)
    if method == "volume-fusion":
        # As VolumeFusionTrainer: two volumes make one patch.
        fusion = SimpleNamespace(
            vf_mixing_coefficients=np.linspace(0, 1, 5),
            vf_subpatch_count=(10, 40),
            vf_subpatch_size=[(8, int(0.625 * one) + 1) for one in patch],
        )
        loader = nnsslCenterCropDataLoader3D(read_dataset(), 2 * BATCH_SIZE, patch, patch)
        transforms = VolumeFusionTrainer.get_training_transforms(fusion, patch, None, (0, 1, 2), False)
    else:
        # As BaseMAETrainer_ANAT_ANON: every patch centred on the anatomy.
        loader = nnsslAnatDataLoader3D(read_dataset(), BATCH_SIZE, initial, patch, oversample_foreground_percent=1.0)
        transforms = BaseMAETrainer.get_training_transforms(patch, rotation, mirror, dummy_2d)
    augmenter = LimitedLenWrapper(
        250, data_loader=loader, transform=transforms, num_processes=N_WORKERS, num_cached=6, wait_time=0.02
    )
    tell(measure(augmenter))
    augmenter._finish()  # noqa: SLF001 - its own way to end the workers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

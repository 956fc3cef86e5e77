"""Read a preprocessed dataset as nnssl's trainers do; run by the Python in which nnssl is installed.

``read_masks.py DATASET CONFIGURATION`` writes JSON: for each volume and each mask the share of every value.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from nnssl.data.dataloading.dataset import nnSSLDatasetBlosc2
from nnssl.data.raw_dataset import Collection
from nnssl.experiment_planning.experiment_planners.plan import Plan


def main(name: str, configuration: str) -> None:
    folder = Path(os.environ["nnssl_preprocessed"], name)  # noqa: SIM112 - so nnssl writes it
    plan = Plan.load_from_file(str(folder / "nnsslPlans.json"))
    collection = Collection.from_dict(json.loads((folder / f"pretrain_data__{configuration}.json").read_text()))
    subjects = [image.get_unique_subject_id() for image in collection.to_independent_images()]
    data_folder = str(folder / plan.configurations[configuration].data_identifier)
    dataset = nnSSLDatasetBlosc2(data_folder, collection, subjects)
    found = {}
    for identifier, image in dataset.image_dataset.items():
        voxels, anon, anat, _ = dataset.load_case(data_folder, dataset.image_dataset, identifier)
        masks = {"anonymization_mask": anon, "anatomy_mask": anat}
        found[Path(image.get_output_path("image")).name] = {
            "shape": list(voxels.shape),
            **{key: None if mask is None else _shares(np.asarray(mask[:])) for key, mask in masks.items()},
        }
    json.dump(found, sys.stdout)


def _shares(mask: np.ndarray) -> dict[str, float]:
    values, counts = np.unique(mask, return_counts=True)
    return {f"{value:g}": count / mask.size for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Store the cases of ``training.evaluate`` with all results that do not depend on the judge, to measure it often."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.ct_padding import without_ct_padding
from inference.judge.context import probabilities
from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel
from inference.refine.grids import Mask
from training.cohort import Cohort
from training.evaluation.cases import all_cases
from training.evaluation.measure import Measured, segment_case

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class KeptCase:
    """A case with the outputs of the 3 mm networks and the result of the pipeline without the judge.

    Masks and voxels are (slice, row, column) on the case's grid.

    Attributes
    ----------
    key
        Volume, modality and condition.
    body
        The body of the foreground network.
    context
        (4, slice, row, column) probabilities of the 3 mm network on its own grid.
    network
        The anonymised area of the network, before refinement.
    today
        The refined anonymised area without the judge.
    truth
        Voxels that the tool changed; None without a tool.
    """

    key: tuple[str, str, str]
    truth_of_face: str
    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    is_ct: bool
    body: Mask
    context: NDArray[np.float32]
    network: Mask
    today: Mask
    truth: Mask | None
    intact_body: Mask | None


def keep_cases(cohort: Cohort, models: Measured, folder: Path) -> None:
    """Segment every case that is not in the folder yet, without the judge, and store it there."""
    folder.mkdir(parents=True, exist_ok=True)
    models = replace(models, judge=None)
    for member, case in all_cases(cohort):
        key = (member.entry.id, case.modality, case.condition)
        path = folder / ("_".join(key).replace(" ", "-").replace("/", "-") + ".npz")
        if path.is_file():
            continue
        body, area, _, refined = segment_case(case, models)
        voxels = without_ct_padding(case.voxels, "CT" if case.is_ct else "MR")
        prepared = Preprocessing(voxels, case.spacing_mm)
        network = models.networks["anonymized"]
        context = coarse_probabilities(network, prepared)
        masks = {"body": body, "network": area, "today": refined.anonymized}
        if case.changed is not None and case.intact_body is not None:
            masks |= {"truth": case.changed, "intact_body": case.intact_body}
        facts = {"key": key, "truth": case.truth, "spacing_mm": case.spacing_mm, "is_ct": case.is_ct}
        _write(path, facts, voxels, context, masks)
        log.info("kept %s", path.stem)


def coarse_probabilities(network: TrainedModel, prepared: Preprocessing) -> NDArray[np.float32]:
    """Return the probabilities (label, slice, row, column) on the network's own grid."""
    planes = [kept.logits for kept in network.predict_logits(prepared.prepare(network.plans, network.channels))]
    return probabilities(torch.cat(planes, 1).numpy())


def _write(
    path: Path,
    facts: Mapping[str, object],
    voxels: NDArray[np.float32],
    context: NDArray[np.float32],
    masks: Mapping[str, Mask],
) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        bits = {name: np.packbits(mask) for name, mask in masks.items()}
        np.savez(stream, facts=json.dumps(facts), voxels=voxels, context=context.astype(np.float16), **bits)  # type: ignore[arg-type]
    part.replace(path)


def kept_cases(folder: Path) -> Iterator[KeptCase]:
    """Yield the stored cases of a folder, in order of their names."""
    for path in sorted(folder.glob("*.npz")):
        kept: dict[str, NDArray[Any]] = dict(np.load(path))
        facts = json.loads(str(kept["facts"]))
        voxels = kept["voxels"]
        masks = {
            name: np.unpackbits(kept[name], count=voxels.size).reshape(voxels.shape).astype(bool)
            for name in ("body", "network", "today", "truth", "intact_body")
            if name in kept
        }
        first, second, third = facts["spacing_mm"]
        case, modality, condition = facts["key"]
        yield KeptCase(
            key=(case, modality, condition),
            truth_of_face=facts["truth"],
            voxels=voxels,
            spacing_mm=(first, second, third),
            is_ct=facts["is_ct"],
            body=masks["body"],
            context=kept["context"].astype(np.float32),
            network=masks["network"],
            today=masks["today"],
            truth=masks.get("truth"),
            intact_body=masks.get("intact_body"),
        )

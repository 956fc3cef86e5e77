"""Segment a case with both networks and the refinement, and compare the masks with its truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from inference.ct_padding import without_ct_padding
from inference.judge_stage import Judged, ask_judge
from inference.load_model import load_judge_of, load_model
from inference.models import ModelSpec, read_model_spec
from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel
from inference.refine.masks import RefinedMasks, refine_masks
from inference.verdict.facts import gather_facts
from training.cohort import Member
from training.evaluation.baselines import otsu_body, zero_run_mm
from training.evaluation.cases import Case
from training.evaluation.rows import MaskScores, Row, weights_of
from training.samples import REPLACED_LABEL

Mask = NDArray[np.bool_]
ROLES = ("foreground", "anonymized")


@dataclass(frozen=True, slots=True)
class Measured:
    """The models under test."""

    specs: dict[str, ModelSpec]
    networks: dict[str, TrainedModel]
    judge: nn.Module | None = None


def load_measured(folder: Path) -> Measured:
    """Load both models of a folder on the CPU."""
    specs, cpu = {role: read_model_spec(folder / role) for role in ROLES}, torch.device("cpu")
    networks = {role: load_model(spec, device=cpu) for role, spec in specs.items()}
    spec = specs["anonymized"]
    judge = None if spec.judge is None else load_judge_of(spec, networks["anonymized"].plans, device=cpu)
    return Measured(specs, networks, judge)


def measure(case: Case, member: Member, models: Measured) -> Row:
    """Segment a case as the node does; return the scores of the networks' masks and of the result."""
    body, area, labels, refined = segment_case(case, models)
    facts = gather_facts(refined.foreground, refined.anonymized, case.spacing_mm).as_dict()
    with_judge = None
    if refined.unconfirmed is not None:
        confirmed = refined.anonymized & ~refined.unconfirmed
        facts, with_judge = gather_facts(refined.foreground, confirmed, case.spacing_mm).as_dict(), facts
    otsu = otsu_body(case.voxels)
    entry = member.entry
    return Row(
        case=entry.id,
        person=entry.person,
        split=entry.split,
        modality=case.modality,
        contrast=entry.contrast,
        condition=case.condition,
        truth=case.truth,
        is_defaced=case.changed is not None,
        network=compare(case, body, area),
        result=compare(case, refined.foreground, refined.anonymized),
        otsu_dice=None if case.body is None else dice(otsu, case.body),
        zero_run_mm=round(zero_run_mm(case.voxels, otsu, case.spacing_mm), 1),
        replaced_ml=round(_ml(labels == REPLACED_LABEL, case), 2),
        decided_by=str(refined.decided_by["anonymized"]),
        facts=facts,
        weights=weights_of(models.specs.values()),
        unconfirmed_ml=0.0 if refined.unconfirmed is None else round(_ml(refined.unconfirmed, case), 2),
        facts_with_judge=with_judge,
    )


def segment_case(case: Case, models: Measured) -> tuple[Mask, Mask, NDArray[np.uint8], RefinedMasks]:
    """Return body and area of the networks alone, the labels of the anonymisation network, and the refined masks.

    All arrays are (slice, row, column) on the case's grid.
    """
    voxels = without_ct_padding(case.voxels, "CT" if case.is_ct else "MR")
    preprocessing = Preprocessing(voxels, case.spacing_mm)
    outputs: dict[str, list[torch.Tensor]] = {role: [] for role in ROLES}
    labels = {role: predict(network, preprocessing, outputs[role]) for role, network in models.networks.items()}
    body, area = (np.isin(labels[role], models.specs[role].mask_values) for role in ROLES)
    spec, judged = models.specs["anonymized"], Judged()
    if models.judge is not None and spec.judge is not None:
        judged = ask_judge(voxels, case.spacing_mm, body, area, outputs["anonymized"], models.judge, spec.judge)
    refined = refine_masks(
        voxels,
        body,
        area,
        case.spacing_mm,
        foreground=models.specs["foreground"].refine,
        anonymized=models.specs["anonymized"].refine,
        is_ct=case.is_ct,
        altered=np.isin(labels["anonymized"], spec.altered_values),
        judged=judged.area,
        judged_altered=judged.altered,
        altered_is_sure=judged.is_sure,
    )
    return body, area, labels["anonymized"], refined


def predict(
    network: TrainedModel, preprocessing: Preprocessing, outputs: list[torch.Tensor] | None = None
) -> NDArray[np.uint8]:
    """Return the network's labels on the volume's grid, (slice, row, column); append its logits to ``outputs``."""
    return network.predict_labels(preprocessing.prepare(network.plans, network.channels), outputs)


def compare(case: Case, body: Mask, area: Mask) -> MaskScores:
    """Return the scores of body and area, (slice, row, column), against the truth of the case."""
    head_dice = full_dice = area_hd95_mm = None
    if case.changed is not None and case.intact_body is not None:
        found, truth = area & case.intact_body, case.changed & case.intact_body
        head_dice, full_dice = dice(found, truth), dice(area, case.changed)
        area_hd95_mm = hd95_mm(found, truth, case.spacing_mm)
    return MaskScores(
        foreground_dice=None if case.body is None else dice(body, case.body),
        foreground_hd95_mm=None if case.body is None else hd95_mm(body, case.body, case.spacing_mm),
        head_dice=head_dice,
        full_dice=full_dice,
        area_hd95_mm=area_hd95_mm,
        area_ml=round(_ml(area, case), 2),
    )


def dice(found: Mask, truth: Mask) -> float:
    """Return the Dice coefficient of two masks of the same shape, rounded to 4 digits; 1 if both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return round(2 * int((found & truth).sum()) / total, 4) if total else 1.0


def hd95_mm(found: Mask, truth: Mask, spacing_mm: tuple[float, float, float]) -> float | None:
    """Return the 95th percentile of the distances between both surfaces; None if a mask has no surface.

    Parameters
    ----------
    found, truth
        Masks of the same shape (slice, row, column).
    spacing_mm
        Along the same axes.

    Returns
    -------
    float or None
        The larger of both directions, in mm.
    """
    if not found.any() or not truth.any():
        return None
    either = found | truth
    window = tuple(
        slice(max(0, part.start - 1), part.stop + 1) for part in ndimage.find_objects(either.astype(np.uint8))[0]
    )
    surfaces = [mask[window] & ~ndimage.binary_erosion(mask[window], border_value=1) for mask in (found, truth)]
    if not all(surface.any() for surface in surfaces):
        return None
    percentiles = []
    for surface, other in (surfaces, surfaces[::-1]):
        distance_mm = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
        percentiles.append(float(np.percentile(distance_mm[surface], 95)))
    return round(max(percentiles), 2)


def _ml(mask: Mask, case: Case) -> float:
    return float(np.count_nonzero(mask)) * float(np.prod(case.spacing_mm)) / 1000.0

"""Honest numbers for the reference models: ``python -m training.evaluate --data DATA --work WORK --split val``.

Every intact head of the split is measured as it is, under each simulated tool, and under what scanners do to a head
that no tool touched; volumes without a face are measured as they are. All on the source grid, network alone.
Beside the network stands what a user would do otherwise: Otsu, largest part, fill.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel, load_trained_model
from training import conditions
from training.atlas import otsu
from training.cohort import Cohort, Member, load_cohort
from training.defacing import FAMILIES, Scene, deface
from training.geometry import resample
from training.labels import fill_holes, largest_part
from training.reference.network import DESIGNS
from training.results import Row, anonymized_tables, foreground_tables, read_rows
from training.samples import ALTERED_LABEL, CHANNEL_NAMES, REMOVED_LABEL
from training.synthesis import render_ct, render_mr

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]
RENDER_MM = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A volume with its truth."""

    condition: str
    voxels: NDArray[np.float32]
    spacing_mm: NDArray[np.float64]
    body: Mask | None
    intact_body: Mask | None = None
    changed: Mask | None = None


Untouched = Callable[[Scene, np.random.Generator], Scene]
CONDITIONS: dict[str, Untouched] = {
    "air zeroed": conditions.zero_air,
    "signal voids": conditions.add_voids,
    "coil fall-off": conditions.fall_off,
    "zero padded": conditions.pad,
    "cropped": conditions.crop,
}


def face_cases(scene: Scene, donor: Scene | None, seed: int) -> Iterator[Case]:
    """The head as it is, under every condition, stripped, and under every tool; ``reface`` only with a donor."""
    yield Case("intact", scene.voxels, scene.spacing_mm, scene.body)
    for index, (name, condition) in enumerate(CONDITIONS.items()):
        if scene.is_ct and name in ("signal voids", "coil fall-off"):
            continue
        changed = condition(scene, np.random.default_rng([seed, index]))
        yield Case(name, changed.voxels, changed.spacing_mm, changed.body)
    stripped, brain = conditions.strip_skull(scene, np.random.default_rng([seed, 50]))
    yield Case("stripped (simulated)", stripped, scene.spacing_mm, brain)
    for index, family in enumerate(FAMILIES):
        if family == "reface" and donor is None:
            continue
        change = deface(scene, family, np.random.default_rng([seed, 100 + index]), donor=donor)
        mask = change.removed | change.altered
        yield Case(family, change.voxels, scene.spacing_mm, change.body, scene.body | change.body, mask)


def measure(case: Case, member: Member, models: dict[str, TrainedModel], *, modality: str) -> Row:
    """Segment one case with both models and compare."""
    preprocessing = Preprocessing(case.voxels, [float(step) for step in case.spacing_mm])
    foreground = predict(models["foreground"], preprocessing) == 1
    anonymized = predict(models["anonymized"], preprocessing)
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000
    head_dice = full_dice = None
    if case.changed is not None and case.intact_body is not None:
        head_dice = dice((anonymized > 0) & case.intact_body, case.changed & case.intact_body)
        full_dice = dice(anonymized > 0, case.changed)
    trusted = case.body is not None and member.body_is_trusted
    return Row(
        member.entry.id,
        member.entry.person,
        modality,
        case.condition,
        case.changed is not None,
        dice(foreground, case.body) if trusted and case.body is not None else None,
        dice(otsu_body(case.voxels), case.body) if trusted and case.body is not None else None,
        head_dice,
        full_dice,
        round(float((anonymized == REMOVED_LABEL).sum()) * voxel_ml, 2),
        round(float((anonymized == ALTERED_LABEL).sum()) * voxel_ml, 2),
    )


def predict(model: TrainedModel, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The model's labels on the volume's grid."""
    return model.predict_labels(preprocessing.prepare(model.plans, model.channels))


def dice(found: Mask, truth: Mask) -> float:
    """Overlap of two masks; 1 when both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return round(2 * int((found & truth).sum()) / total, 4) if total else 1.0


def otsu_body(voxels: NDArray[np.float32]) -> Mask:
    """What one does without a model."""
    return fill_holes(largest_part(voxels > otsu(voxels)))


def scenes(member: Member, cohort: Cohort) -> Iterator[tuple[str, Scene]]:
    """The head on its own grid; a label map once as MR and once as CT."""
    assert member.to_template is not None
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    if not member.is_labelmap:
        voxels = np.asarray(member.voxels, dtype=np.float32)
        is_ct = member.entry.modality == "CT"
        yield member.entry.modality, Scene(voxels, spacing, member.body, member.to_template, cohort.brain_atlas, is_ct)
        return
    margin = 20.0
    matrix = np.diag([*(RENDER_MM / spacing), 1.0])
    matrix[1:3, 3] = -margin
    extent = np.array(member.voxels.shape) * spacing + [margin, 2 * margin, 2 * margin]
    shape = np.round(extent / RENDER_MM).astype(np.int64)
    groups = resample(member.voxels, matrix, shape, order=0, outside="constant").astype(np.uint8)
    body = resample(member.body, matrix, shape, order=0, outside="constant").astype(bool)
    place = member.to_template @ matrix
    step = np.full(3, RENDER_MM)
    rng = np.random.default_rng(3)
    yield "MR (rendered)", Scene(render_mr(groups, rng), step, body, place, cohort.brain_atlas)
    voxels = render_ct(groups, body, step, rng)
    yield "CT (rendered)", Scene(voxels, step, body, place, cohort.brain_atlas, is_ct=True)


def evaluate(cohort: Cohort, models: dict[str, TrainedModel], out: Path) -> list[Row]:
    """Measure everything, writing each row as it comes; rows already there are not measured again."""
    rows = read_rows(out) if out.is_file() else []
    done = {(row.case, row.modality, row.condition) for row in rows}
    with out.open("a", encoding="utf-8") as lines:
        for member, modality, case in all_cases(cohort):
            if (member.entry.id, modality, case.condition) in done:
                continue
            row = measure(case, member, models, modality=modality)
            rows.append(row)
            lines.write(json.dumps(asdict(row)) + "\n")
            lines.flush()
    return rows


def all_cases(cohort: Cohort) -> Iterator[tuple[Member, str, Case]]:
    """Every case of the cohort, one person after the other."""
    faces = [member for member in cohort.members if member.has_face]
    donors = [(m, scene) for m in faces[:3] for modality, scene in scenes(m, cohort) if modality == "MR"]
    for seed, member in enumerate(faces):
        for modality, scene in scenes(member, cohort):
            others = [head for owner, head in donors if owner is not member and not scene.is_ct]
            donor = others[0] if others else None
            for case in face_cases(scene, donor, seed):
                yield member, modality, case
    for member in cohort.members:
        if not member.has_face:
            spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
            kind = member.entry.face if member.entry.body_part == "head" else "body"
            voxels = np.asarray(member.voxels, dtype=np.float32)
            yield member, member.entry.modality, Case(kind, voxels, spacing, member.body)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--split", choices=["val", "test"], default="val", help="test: for final numbers only")
    parser.add_argument("--out", type=Path, required=True, help="rows as JSON lines; kept rows are not measured again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {
        role: load_trained_model(arguments.models / role, channels=CHANNEL_NAMES, device=torch.device("cpu"))
        for role in DESIGNS
    }
    cohort = load_cohort(arguments.data, arguments.work, frozenset({arguments.split}))
    rows = evaluate(cohort, models, arguments.out)
    print(foreground_tables(rows), anonymized_tables(rows), sep="\n\n")


if __name__ == "__main__":
    main()

"""Cases to measure, with their truth: heads unchanged, after each tool, and under simulated scanner effects.

Where the file of a head holds whole numbers, its cases do too, as what scanners and tools write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.verdict.facts import gather_facts
from training import conditions
from training.cohort import Cohort, Member
from training.defacing import ALTERED, FAMILIES, NEED_DONORS, Change, Scene, deface
from training.evaluation.unseen import UNSEEN, deface_unseen
from training.geometry import resample
from training.synthesis import render_ct, render_mr

Mask = NDArray[np.bool_]
RENDER_MM, RENDER_AIR_MM, RENDER_MAX = 1.5, 20.0, 1000.0
N_DONORS = 3
COVERED_FROM = 0.5  # share of the face's front that a tool must remove for the face to count as covered
# Truth about the face, with which the verdict is compared.
FACE, COVERED, PARTLY, ALTERED_FACE, CUT_OFF, NONE = "face", "covered", "partly", "altered", "cut off", "none"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A volume with its truth; arrays are (slice, row, column) with axes towards head, posterior and left.

    Attributes
    ----------
    condition
        A tool's family, a scanner effect, or the inventory's description of a volume without a whole face.
    truth
        One of ``FACE``, ``COVERED``, ``PARTLY``, ``ALTERED_FACE``, ``CUT_OFF`` and ``NONE``.
    body
        The body in ``voxels``; None if no label can be trusted.
    intact_body
        Union of the body before and after the tool; Dice *in the head* is computed only there.
    changed
        Voxels that the tool changed, including overwritten air; None without a tool.
    """

    condition: str
    modality: str
    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    truth: str
    body: Mask | None
    intact_body: Mask | None = None
    changed: Mask | None = None

    @property
    def is_ct(self) -> bool:
        """Whether the volume is a CT or rendered as one."""
        return "CT" in self.modality


Untouched = Callable[[Scene, np.random.Generator], Scene]
CONDITIONS: dict[str, Untouched] = {
    "air zeroed": conditions.zero_air,
    "signal voids": conditions.add_voids,
    "coil fall-off": conditions.fall_off,
    "zero padded": conditions.pad,
    "cropped": conditions.crop,
}
MR_ONLY = ("signal voids", "coil fall-off")


def all_cases(cohort: Cohort) -> Iterator[tuple[Member, Case]]:
    """Yield every case of the cohort with its member, first the volumes without a whole face."""
    for member in cohort.members:
        if not member.has_face:
            yield member, faceless_case(member)
    faces = [member for member in cohort.members if member.has_face]
    donors = [(m, scene) for m in faces[:N_DONORS] for modality, scene in scenes(m, cohort) if modality == "MR"]
    for seed, member in enumerate(faces):
        for modality, scene in scenes(member, cohort):
            others = [head for owner, head in donors if owner is not member and not scene.is_ct]
            for case in face_cases(scene, modality, others, seed):
                yield member, case


def scenes(member: Member, cohort: Cohort) -> Iterator[tuple[str, Scene]]:
    """Yield modality and scene of a head on its own grid; a label map is rendered once as MR and once as CT."""
    assert member.to_template is not None
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    if not member.is_labelmap:
        voxels = np.asarray(member.voxels, dtype=np.float32)
        is_ct = member.entry.modality == "CT"
        yield member.entry.modality, Scene(voxels, spacing, member.body, member.to_template, cohort.brain_atlas, is_ct)
        return
    matrix = np.diag([*(RENDER_MM / spacing), 1.0])
    matrix[1:3, 3] = -RENDER_AIR_MM
    extent = np.array(member.voxels.shape) * spacing + [RENDER_AIR_MM, 2 * RENDER_AIR_MM, 2 * RENDER_AIR_MM]
    shape = np.round(extent / RENDER_MM).astype(np.int64)
    groups = resample(member.voxels, matrix, shape, order=0, outside="constant").astype(np.uint8)
    body = resample(member.body, matrix, shape, order=0, outside="constant").astype(bool)
    place = member.to_template @ matrix
    step = np.full(3, RENDER_MM)
    rng = np.random.default_rng(3)
    rendered = render_mr(groups, rng)
    rendered = np.round(rendered * (RENDER_MAX / rendered.max()))
    yield "MR (rendered)", Scene(rendered, step, body, place, cohort.brain_atlas)
    voxels = np.round(render_ct(groups, body, step, rng))
    yield "CT (rendered)", Scene(voxels, step, body, place, cohort.brain_atlas, is_ct=True)


def face_cases(scene: Scene, modality: str, donors: Sequence[Scene], seed: int) -> Iterator[Case]:
    """Yield the head unchanged, under every condition, stripped, and after every tool for which there are donors."""
    yield Case("intact", modality, scene.voxels, _spacing(scene), FACE, scene.body)
    for index, (name, condition) in enumerate(CONDITIONS.items()):
        if scene.is_ct and name in MR_ONLY:
            continue
        changed = condition(scene, np.random.default_rng([seed, index]))
        truth = CUT_OFF if name == "cropped" else FACE
        yield Case(name, modality, _as_stored(changed.voxels, scene), _spacing(changed), truth, changed.body)
    stripped, brain = conditions.strip_skull(scene, np.random.default_rng([seed, 50]))
    yield Case("stripped (simulated)", modality, _as_stored(stripped, scene), _spacing(scene), NONE, brain)
    for index, family in enumerate(FAMILIES):
        if family in NEED_DONORS and not donors:
            continue
        change = deface(scene, family, np.random.default_rng([seed, 100 + index]), donors=donors)
        yield _defaced_case(scene, modality, change)
    for name in UNSEEN:
        yield _defaced_case(scene, modality, deface_unseen(scene, name))


def _defaced_case(scene: Scene, modality: str, change: Change) -> Case:
    mask = change.removed | change.altered
    spacing_mm = _spacing(scene)
    truth = ALTERED_FACE if change.family in ALTERED else _truth_of_cut(change.body, mask, spacing_mm)
    either_body = scene.body | change.body
    voxels = _as_stored(change.voxels, scene)
    return Case(change.family, modality, voxels, spacing_mm, truth, change.body, either_body, mask)


def _as_stored(voxels: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
    """Round what was made of a scene, unless the scene itself holds fractions."""
    return np.round(voxels) if bool(np.all(scene.voxels == np.round(scene.voxels))) else voxels


def faceless_case(member: Member) -> Case:
    """Return the case of a volume without a whole face, unchanged; its truth comes from the inventory."""
    entry = member.entry
    first, second, third = (float(step) for step in np.linalg.norm(member.affine[:3, :3], axis=0))
    if entry.body_part != "head":
        condition, truth = "body", NONE
    elif entry.face == "stripped":
        condition, truth = entry.face, NONE
    else:
        condition, truth = entry.face, _truth_as_found(entry.face)
    body = member.body if member.body_is_trusted else None
    voxels = np.asarray(member.voxels, dtype=np.float32)
    return Case(condition, entry.modality, voxels, (first, second, third), truth, body)


def _truth_as_found(face: str) -> str:
    """Return the truth for a head without a whole face from the inventory's column ``face``."""
    if not face.startswith("defaced"):
        return CUT_OFF
    return PARTLY if "eye" in face else COVERED


def _truth_of_cut(body: Mask, removed: Mask, spacing_mm: tuple[float, float, float]) -> str:
    """Return ``COVERED`` if a cut removed most of the face's front, else ``PARTLY``."""
    return COVERED if gather_facts(body, removed, spacing_mm).coverage >= COVERED_FROM else PARTLY


def _spacing(scene: Scene) -> tuple[float, float, float]:
    first, second, third = (float(step) for step in scene.spacing_mm)
    return first, second, third

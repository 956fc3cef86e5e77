"""Simulate cases for the judge: half of them untouched, the other half changed by one tool each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.ct_padding import without_ct_padding
from training import conditions
from training.cohort import Member
from training.defacing import MANY_NOISY, NEED_DONORS, Change, Scene, deface
from training.judge.heads import Heads, map_scene, scan_scene, with_geometry
from training.judge.tools import TOOLS, WITH_DONORS
from training.judge.untouched import regrid, vary
from training.samples import anonymized_target

UNTOUCHED_SHARE = 0.5
SHARES = {
    "shell": 0.16,
    "fsl_deface": 0.08,
    "eyes": 0.08,
    "mri_deface": 0.06,
    "pydeface": 0.04,
    "quickshear": 0.03,
    "box": 0.03,
    "oblique": 0.02,
    "half space": 0.03,
    "mridefacer": 0.03,
    "blur": 0.09,
    "block face": 0.02,
    "average face": 0.05,
    "mean face": 0.06,
    "reface": 0.08,
    "other face": 0.07,
    "template face": 0.07,
}
CT_SHARE, RENDERED_MR_SHARE = 0.22, 0.12  # of heads; the rest are scans
REAL_CT_SHARE = 0.06  # of the CT heads
FACELESS_SHARE = 0.3  # of untouched cases
STRIPPED_SHARE = 0.12  # of untouched faces
RESTORED_SHARE = 0.95  # of heads with integer values: rounded to integers again after the tool
FRACTIONS_SHARE = 0.1  # of heads with integer values: get fractions before the tool, so that these do not reveal a tool
ROUNDED_SHARE = 0.7  # of MR heads whose file holds fractions: rounded to integers before the tool, like a scanner's
ROUNDED_TO = (200.0, 3000.0)  # range of their 99.9th percentile; the fewer the levels, the less of noise is left
LARGEST_DONORS = 3


@dataclass(frozen=True, slots=True, eq=False)
class JudgeCase:
    """A volume and its target, both (slice, row, column).

    Labels are 0 untouched, 1 removed, 2 smoothed, 3 replaced, and 255 for voxels to ignore.
    """

    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    target: NDArray[np.uint8]
    kind: str
    is_ct: bool


def draw_case(heads: Heads, rng: np.random.Generator, left_out: frozenset[str] = frozenset()) -> JudgeCase:
    """Draw one case; tools that are ``left_out`` change none, and the others keep their shares among themselves."""
    is_untouched = rng.random() < UNTOUCHED_SHARE
    if is_untouched and rng.random() < FACELESS_SHARE:
        return _faceless_case(heads, rng)
    scene, is_whole = _draw_head(heads, rng)
    if is_untouched:
        kind = "intact"
        if rng.random() < STRIPPED_SHARE:
            voxels, body = conditions.strip_skull(scene, rng)
            scene, kind = replace(scene, voxels=voxels, body=body), "stripped"
        return _case(regrid(scene, rng), None, kind, rng, is_whole=is_whole)
    shares = {family: share for family, share in SHARES.items() if family not in left_out}
    family = str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
    if rng.random() < 0.15:
        scene = regrid(scene, rng)
    change = apply_tool(scene, family, heads, rng)
    return _case(scene, change, family, rng, is_whole=is_whole)


def apply_tool(scene: Scene, family: str, heads: Heads, rng: np.random.Generator) -> Change:
    """Apply one tool to one head, with as many donors as it needs."""
    donors = []
    if family in WITH_DONORS or family in NEED_DONORS:
        count = 1 if family in ("other face", "reface") else int(rng.integers(1, LARGEST_DONORS + 1))
        donors = [_draw_donor(heads, rng, is_ct=scene.is_ct) for _ in range(count)]
    if family in TOOLS:
        return TOOLS[family](scene, rng, donors)
    return deface(scene, family, rng, donors=donors, fills=MANY_NOISY)


def _draw_head(heads: Heads, rng: np.random.Generator) -> tuple[Scene, bool]:
    """Return a head with a face, varied on its own grid, and whether its values were integers."""
    draw = rng.random()
    is_ct = draw < CT_SHARE
    is_map = draw < CT_SHARE + RENDERED_MR_SHARE
    if is_ct and heads.ct and rng.random() < REAL_CT_SHARE:
        is_map = False
        scene = scan_scene(_one_of(heads.ct, rng), heads)
    elif is_map:
        scene = map_scene(_one_of(heads.maps, rng), heads, rng, is_ct=is_ct)
    else:
        scene = scan_scene(_one_of(heads.mr, rng), heads)
        if rng.random() < 0.5:
            scene = _mirrored(scene)
    if not (is_map or is_ct) and not _holds_whole_numbers(scene.voxels) and rng.random() < ROUNDED_SHARE:
        scene = with_geometry(replace(scene, voxels=_rounded(scene.voxels, rng)), scene)
    is_whole = is_map or _holds_whole_numbers(scene.voxels)
    scene = vary(scene, rng, is_map=is_map)
    if is_whole and rng.random() < FRACTIONS_SHARE:
        return with_geometry(replace(scene, voxels=_with_fractions(scene.voxels, rng)), scene), False
    return scene, is_whole


def _holds_whole_numbers(voxels: NDArray[np.float32]) -> bool:
    some = voxels[::5, ::5, ::5]
    return bool(np.all(some == np.round(some)))


def _rounded(voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Scale values of any unit to a random range and round them to integers."""
    highest = max(float(np.percentile(voxels[::2, ::2, ::2], 99.9)), 1e-6)
    wanted = np.exp(rng.uniform(*np.log(ROUNDED_TO)))
    return np.round(voxels * np.float32(wanted / highest)).astype(np.float32)


def _with_fractions(voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Add random fractions to integers, as if they had not been rounded; constant regions stay constant."""
    dithered = voxels + rng.uniform(-0.5, 0.5, voxels.shape).astype(np.float32)
    is_written = ndimage.maximum_filter(voxels, 3) == ndimage.minimum_filter(voxels, 3)
    return np.where(is_written | (voxels == 0), voxels, dithered)


def _draw_donor(heads: Heads, rng: np.random.Generator, *, is_ct: bool) -> Scene:
    """Draw another head of the same modality."""
    if is_ct or rng.random() < 0.15:
        return map_scene(_one_of(heads.maps, rng), heads, rng, is_ct=is_ct)
    return scan_scene(_one_of(heads.mr, rng), heads)


def _mirrored(scene: Scene) -> Scene:
    """Exchange left and right; the position in the template is mirrored too."""
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = scene.voxels.shape[2] - 1
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    turned = Scene(
        np.ascontiguousarray(scene.voxels[..., ::-1]),
        scene.spacing_mm,
        np.ascontiguousarray(scene.body[..., ::-1]),
        mirror @ scene.to_template @ flip,
        scene.brain_atlas,
        scene.is_ct,
    )
    for name in ("depth_mm", "height_mm", "brain_distance_mm"):
        if name in scene.__dict__:
            turned.__dict__[name] = np.ascontiguousarray(scene.__dict__[name][..., ::-1])
    return turned


def _faceless_case(heads: Heads, rng: np.random.Generator) -> JudgeCase:
    """Draw a body, or a cropped, stripped or echo-planar head, on its own grid."""
    member = _one_of(heads.faceless, rng)
    voxels = np.asarray(member.voxels, dtype=np.float32)
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    scene = Scene(voxels, spacing, member.body, np.eye(4), heads.atlas, member.entry.modality == "CT")
    if rng.random() < 0.5:
        scene = with_geometry(conditions.vary_intensity(scene, rng), scene)
        if member.entry.face == "stripped":  # removed voxels stay exactly zero
            scene = replace(scene, voxels=np.where(voxels == voxels.min(), np.float32(0), scene.voxels))
    if rng.random() < 0.25 and not scene.body.all():
        scene = conditions.zero_air(scene, rng)
    is_whole = _holds_whole_numbers(voxels)
    kind = "body" if member.entry.body_part != "head" else member.entry.face
    return _case(regrid(scene, rng), None, kind, rng, is_whole=is_whole)


def _case(scene: Scene, change: Change | None, kind: str, rng: np.random.Generator, *, is_whole: bool) -> JudgeCase:
    """Round the volume as scanners and tools do, and label it."""
    voxels = scene.voxels if change is None else change.voxels
    target = np.zeros(scene.body.shape, np.uint8) if change is None else anonymized_target(scene, change)
    if is_whole and rng.random() < RESTORED_SHARE and float(voxels.max() - voxels.min()) > 50:
        voxels = np.round(voxels)
    voxels = without_ct_padding(np.ascontiguousarray(voxels, dtype=np.float32), "CT" if scene.is_ct else "MR")
    first, second, third = (float(step) for step in scene.spacing_mm)
    return JudgeCase(voxels, (first, second, third), target, kind, scene.is_ct)


def _one_of(members: tuple[Member, ...], rng: np.random.Generator) -> Member:
    return members[rng.integers(len(members))]

"""Draw training samples for both networks: pairs of a head intact and defaced, and volumes without a face.

Samples are preprocessed as at inference: channels from raw values, z-score over the whole volume, trilinear resampling
to the model grid; then a patch is cut out. Sample number ``n`` of a seed is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from inference.nnunet.channels import CHANNELS
from training import conditions
from training.cohort import Cohort, Member
from training.defacing import MANY_NOISY, NEED_DONORS, Change, Scene, deface
from training.geometry import draw_grid, resample, spacing_after
from training.synthesis import render_ct, render_mr

MODEL_SPACING_MM = 3.0
PATCH = (56, 64, 48)
CHANNEL_NAMES = ("image", "field_of_view", "constancy", "roughness")
IGNORE = 255
REMOVED_LABEL, SMOOTHED_LABEL, REPLACED_LABEL = 1, 2, 3
FAMILY_SHARES = {
    "pydeface": 0.15,
    "quickshear": 0.10,
    "mri_deface": 0.11,
    "shell": 0.18,
    "fsl_deface": 0.11,
    "box": 0.07,
    "oblique": 0.05,
    "eyes": 0.06,
    "blur": 0.08,
    "reface": 0.03,
    "average face": 0.06,
}
FACE_SHARE = 0.5  # of draws; the others are volumes without a face
BODY_SHARE = 0.7  # of the volumes without a face
CROP_SHARE, STRIP_SHARE = 0.15, 0.08  # of faces
LARGE_PART_SHARE = 0.01  # of the largest part that a tool changed; smaller parts are ignored
SLAB_SHARE = 0.08  # of faces, and twice this share of the others, that become stacks of a few slices


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One patch: channels (channel, slice, row, column), and both targets (slice, row, column) with 255 to ignore."""

    channels: NDArray[np.float16]
    foreground: NDArray[np.uint8]
    anonymized: NDArray[np.uint8]
    kind: str


def draw_samples(cohort: Cohort, rng: np.random.Generator) -> list[Sample]:
    """Draw one to three samples of one person on one grid."""
    if rng.random() >= FACE_SHARE:
        return [_faceless(cohort, rng)]
    faces = [member for member in cohort.members if member.has_face]
    scene = _draw_scene(_draw_face(faces, rng), cohort, rng)
    scene = conditions.vary_condition(conditions.vary_intensity(scene, rng), rng)
    if rng.random() < CROP_SHARE:
        scene = conditions.crop(scene, rng)
    if rng.random() < SLAB_SHARE:
        scene = conditions.thin_slab(scene, rng)
    family = str(rng.choice(list(FAMILY_SHARES), p=list(FAMILY_SHARES.values())))
    n_donors = 0 if family not in NEED_DONORS else 1 if family == "reface" else int(rng.integers(1, 4))
    donors = [_draw_donor(faces, cohort, rng, is_ct=scene.is_ct) for _ in range(n_donors)]
    change = deface(scene, family, rng, donors=donors, fills=MANY_NOISY)
    scene, change = _store_again(scene, change, rng)
    corner = rng.random(3)
    centre = centre_of(change.removed | change.altered, rng) if rng.random() < 0.75 else None
    samples = [
        to_sample(change.voxels, scene, change.body, anonymized_target(scene, change), corner, centre, family),
        to_sample(scene.voxels, scene, scene.body, np.zeros(scene.body.shape, np.uint8), corner, centre, "intact"),
    ]
    if rng.random() < STRIP_SHARE:
        voxels, body = conditions.strip_skull(scene, rng)
        samples.append(to_sample(voxels, scene, body, np.zeros(body.shape, np.uint8), corner, None, "stripped"))
    return samples


def anonymized_target(scene: Scene, change: Change) -> NDArray[np.uint8]:
    """Return the labels (slice, row, column) of changes in the body.

    Air that a tool set to zero cannot be distinguished from other air and is ignored.
    """
    target = np.zeros(scene.body.shape, np.uint8)
    target[change.removed] = IGNORE
    target[change.removed & scene.body] = REMOVED_LABEL
    changed = change.altered & (scene.body | change.body)
    target[change.altered] = IGNORE
    target[changed] = REPLACED_LABEL if change.family == "reface" else SMOOTHED_LABEL
    return target


def _draw_face(faces: list[Member], rng: np.random.Generator) -> Member:
    """Draw a face: label maps in 45 % of draws, CT heads in 5 %, otherwise MR heads."""
    draw = rng.random()
    maps = [member for member in faces if member.is_labelmap]
    ct = [member for member in faces if member.entry.modality == "CT"]
    mr = [member for member in faces if member.entry.modality == "MR"]
    chosen = maps if draw < 0.45 else (ct if draw < 0.5 and ct else mr)
    return chosen[rng.integers(len(chosen))]


def _draw_scene(member: Member, cohort: Cohort, rng: np.random.Generator, *, ct: bool | None = None) -> Scene:
    """Return the member on a random grid; a label map is rendered on it."""
    matrix, shape = draw_grid(member, rng)
    spacing = spacing_after(member, matrix)
    assert member.to_template is not None
    to_template = member.to_template @ matrix
    is_ct = member.entry.modality == "CT"
    if not member.is_labelmap:
        body = resample(member.body, matrix, shape, order=0).astype(bool)
        return Scene(
            resample(member.voxels, matrix, shape, order=1), spacing, body, to_template, cohort.brain_atlas, is_ct
        )
    is_ct = rng.random() < 0.5 if ct is None else ct
    groups = resample(member.voxels, matrix, shape, order=0, outside="constant").astype(np.uint8)
    body = resample(member.body, matrix, shape, order=0, outside="constant").astype(bool)
    voxels = render_ct(groups, body, spacing, rng) if is_ct else render_mr(groups, rng)
    return Scene(voxels, spacing, body, to_template, cohort.brain_atlas, is_ct)


def _draw_donor(faces: list[Member], cohort: Cohort, rng: np.random.Generator, *, is_ct: bool) -> Scene:
    """Draw another head of the same modality, unchanged."""
    fitting = [m for m in faces if (m.is_labelmap if is_ct else m.entry.modality == "MR")]
    member = fitting[rng.integers(len(fitting))]
    if is_ct:
        return _draw_scene(member, cohort, rng, ct=True)
    assert member.to_template is not None
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    voxels = np.asarray(member.voxels, dtype=np.float32)
    return Scene(voxels, spacing, member.body, member.to_template, cohort.brain_atlas)


def _faceless(cohort: Cohort, rng: np.random.Generator) -> Sample:
    """Draw a body, or a cropped, stripped or echo-planar head, without a tool."""
    others = [member for member in cohort.members if not member.has_face]
    bodies = [member for member in others if member.entry.body_part != "head"]
    heads = [member for member in others if member.entry.body_part == "head"]
    chosen = bodies if rng.random() < BODY_SHARE else heads
    member = chosen[rng.integers(len(chosen))]
    matrix, shape = draw_grid(member, rng)
    body = resample(member.body, matrix, shape, order=0).astype(bool)
    scene = Scene(
        resample(member.voxels, matrix, shape, order=0 if member.entry.face == "stripped" else 1),
        spacing_after(member, matrix),
        body,
        np.eye(4),
        cohort.brain_atlas,
        member.entry.modality == "CT",
    )
    scene = conditions.vary_intensity(scene, rng)
    if member.entry.face == "stripped":  # zeros outside the brain stay exactly zero
        outside = resample(member.voxels, matrix, shape, order=0) == member.voxels.min()
        scene = replace(scene, voxels=np.where(outside, np.float32(0), scene.voxels))
    elif scene.is_ct and rng.random() < 0.4:
        scene = _round_field_of_view(scene, rng)
    if rng.random() < 0.2:
        scene = conditions.zero_air(scene, rng)
    if rng.random() < 0.2:
        scene = conditions.pad(scene, rng)
    if rng.random() < 0.3:
        scene = conditions.crop(scene, rng)
    if rng.random() < 2 * SLAB_SHARE:
        scene = conditions.thin_slab(scene, rng)
    nothing = np.zeros(scene.body.shape, np.uint8)
    kind = "body" if member.entry.body_part != "head" else member.entry.face
    sample = to_sample(scene.voxels, scene, scene.body, nothing, rng.random(3), None, kind)
    if not member.body_is_trusted:
        sample.foreground[:] = IGNORE
    return sample


def _round_field_of_view(scene: Scene, rng: np.random.Generator) -> Scene:
    """Set voxels outside the reconstructed circle of a CT to one padding value."""
    _, rows, columns = np.ogrid[tuple(slice(size) for size in scene.voxels.shape)]
    height, width = scene.voxels.shape[1:]
    outside = ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2) > rng.uniform(0.2, 0.27)
    outside = np.broadcast_to(outside, scene.voxels.shape)
    value = float(rng.choice([-3024.0, -2048.0, -2000.0, -1024.0, 0.0]))
    return replace(scene, voxels=np.where(outside, np.float32(value), scene.voxels), body=scene.body & ~outside)


def _store_again(scene: Scene, change: Change, rng: np.random.Generator) -> tuple[Scene, Change]:
    """Simulate storage after the tool: sometimes resampling to another grid, often rounding to integers."""
    if rng.random() < 0.15:
        zoom = rng.uniform(0.8, 1.2)
        after, before = (
            ndimage.zoom(voxels, zoom, order=1, mode="nearest", grid_mode=True)
            for voxels in (change.voxels, scene.voxels)
        )
        removed, altered, body, intact = (
            ndimage.zoom(mask.astype(np.uint8), zoom, order=0, mode="nearest", grid_mode=True).astype(bool)
            for mask in (change.removed, change.altered, change.body, scene.body)
        )
        ratio = np.array(scene.voxels.shape) / np.array(after.shape)
        matrix = np.diag([*ratio, 1.0])
        matrix[:3, 3] = 0.5 * ratio - 0.5
        scene = Scene(
            before, scene.spacing_mm * ratio, intact, scene.to_template @ matrix, scene.brain_atlas, scene.is_ct
        )
        change = Change(after, removed, altered, body, change.family)
    if rng.random() < 0.6:
        low, high = float(change.voxels.min()), float(change.voxels.max())
        if high - low > 50:
            scene = replace(scene, voxels=np.round(scene.voxels))
            change = replace(change, voxels=np.round(change.voxels))
    return scene, change


def centre_of(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Draw a voxel of the mask to place a patch around, as fractions of the array; None if the mask is empty.

    All large parts are equally likely, so that ears are drawn as often as the face.
    """
    parts, n_parts = ndimage.label(mask)
    if not n_parts:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(sizes >= LARGE_PART_SHARE * sizes.max()) + 1
    places = np.flatnonzero(parts == large[rng.integers(large.size)])
    index = np.unravel_index(places[rng.integers(places.size)], mask.shape)
    return np.asarray([(i + 0.5) / size for i, size in zip(index, mask.shape, strict=True)])


def preprocess(voxels: NDArray[np.float32], spacing_mm: NDArray[np.float64]) -> torch.Tensor:
    """Return the channels on the model grid, exactly as nnU-Net computes them from the plans.

    Parameters
    ----------
    voxels
        (slice, row, column) raw values.
    spacing_mm
        Along the same axes.

    Returns
    -------
    torch.Tensor
        (channel, slice, row, column) float32.
    """
    channels = [CHANNELS[name](voxels) for name in CHANNEL_NAMES]
    image = channels[0]
    channels[0] = (image - image.mean()) / max(float(image.std()), 1e-8)
    stacked = torch.from_numpy(np.stack(channels).astype(np.float32))[None]
    return torch.nn.functional.interpolate(stacked, size=model_shape(voxels.shape, spacing_mm), mode="trilinear")[0]


def model_shape(shape: tuple[int, ...], spacing_mm: NDArray[np.float64]) -> list[int]:
    """Return the shape on the model grid, rounded as in nnU-Net."""
    return [max(1, round(spacing / MODEL_SPACING_MM * size)) for size, spacing in zip(shape, spacing_mm, strict=True)]


def to_sample(
    voxels: NDArray[np.float32],
    scene: Scene,
    body: NDArray[np.bool_],
    anonymized: NDArray[np.uint8],
    corner: NDArray[np.float64],
    centre: NDArray[np.float64] | None,
    kind: str,
) -> Sample:
    """Preprocess a volume and cut one patch, at ``centre`` or else at ``corner`` (both fractions of the array)."""
    channels = preprocess(voxels.astype(np.float32), scene.spacing_mm).numpy()
    shape = channels.shape[1:]
    targets = [downsample_labels(labels, shape) for labels in (body.astype(np.uint8), anonymized)]
    starts = []
    for axis, (size, wanted) in enumerate(zip(shape, PATCH, strict=True)):
        room = max(0, size - wanted)
        start = corner[axis] * room if centre is None else centre[axis] * size - wanted * (0.3 + 0.4 * corner[axis])
        starts.append(int(np.clip(start, 0, room)))
    window = tuple(slice(start, start + wanted) for start, wanted in zip(starts, PATCH, strict=True))
    widths = [
        (max(0, (wanted - size) // 2), max(0, wanted - size - (wanted - size) // 2))
        for size, wanted in zip(shape, PATCH, strict=True)
    ]
    return Sample(
        np.pad(channels[:, *window], [(0, 0), *widths]).astype(np.float16),
        np.pad(targets[0][window], widths),
        np.pad(targets[1][window], widths),
        kind,
    )


def downsample_labels(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return labels (slice, row, column) resampled to ``shape``: the label with the largest trilinear share."""
    present = np.unique(labels)
    if present.size == 1:
        return np.full(shape, present[0], np.uint8)
    shares = torch.from_numpy(np.stack([(labels == label).astype(np.float32) for label in present]))[None]
    coarse = torch.nn.functional.interpolate(shares, size=shape, mode="trilinear")[0].numpy()
    best, largest = np.full(shape, present[0], np.uint8), coarse[0]
    for label, share in zip(present[1:], coarse[1:], strict=True):  # many times faster than argmax over a first axis
        best[share > largest] = label
        largest = np.maximum(largest, share)
    return best

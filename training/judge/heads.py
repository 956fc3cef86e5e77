"""Heads for simulation; everything that does not depend on their values is computed once and stored in a folder.

A scan stays on its own grid, because from interpolated tissue the network would learn that tissue is smooth. A label
map is stored as tissue groups on a few random grids, each of which is sometimes replaced by a new one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from training.atlas import BrainAtlas
from training.cohort import Cohort, Member
from training.defacing import Scene
from training.geometry import resample
from training.synthesis import render_ct, render_mr

log = logging.getLogger(__name__)

GRIDS_PER_MAP = 3
NEW_GRID_SHARE = 0.1  # of draws of a label map, which then replace the stored grid
FINE_SHARE, THICK_SHARE = 0.15, 0.2  # of the grids of label maps
MAX_VOXELS = 5_000_000
GEOMETRY = ("depth_mm", "height_mm", "brain_distance_mm")


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The members of a cohort, grouped by what can be simulated on them, and the folder of their geometry."""

    mr: tuple[Member, ...]
    ct: tuple[Member, ...]
    maps: tuple[Member, ...]
    faceless: tuple[Member, ...]
    atlas: BrainAtlas
    folder: Path


def sort_heads(cohort: Cohort, folder: Path) -> Heads:
    """Group the members; their geometry is computed when it is first needed."""
    folder.mkdir(parents=True, exist_ok=True)
    faces = [member for member in cohort.members if member.has_face]
    return Heads(
        tuple(member for member in faces if member.entry.modality == "MR"),
        tuple(member for member in faces if member.entry.modality == "CT"),
        tuple(member for member in faces if member.is_labelmap),
        tuple(member for member in cohort.members if not member.has_face and not member.is_labelmap),
        cohort.brain_atlas,
        folder,
    )


def scan_scene(member: Member, heads: Heads) -> Scene:
    """Return the head of a scan on its own grid."""
    assert member.to_template is not None
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    is_ct = member.entry.modality == "CT"
    voxels = np.asarray(member.voxels, dtype=np.float32)
    scene = Scene(voxels, spacing, member.body, member.to_template, heads.atlas, is_ct)
    return _with_kept_geometry(scene, heads.folder / f"{member.entry.id}.npz")


def map_scene(member: Member, heads: Heads, rng: np.random.Generator, *, is_ct: bool) -> Scene:
    """Return an image rendered from a label map on one of its grids."""
    path = heads.folder / f"{member.entry.id}-{rng.integers(GRIDS_PER_MAP)}.npz"
    if not path.is_file() or rng.random() < NEW_GRID_SHARE:
        path.unlink(missing_ok=True)
        groups, body, spacing, place = _on_a_grid(member, rng)
        grid = Scene(groups.astype(np.float32), spacing, body, place, heads.atlas)
        _keep(grid, path, groups=groups, body=np.packbits(body), spacing_mm=spacing, to_template=place)
    kept = dict(np.load(path))
    groups, spacing = kept["groups"], kept["spacing_mm"]
    body = _unpacked(kept["body"], groups.shape)
    voxels = render_ct(groups, body, spacing, rng) if is_ct else render_mr(groups, rng)
    scene = Scene(voxels, spacing, body, kept["to_template"], heads.atlas, is_ct)
    return _filled(scene, kept)


def with_geometry(scene: Scene, like: Scene) -> Scene:
    """Return ``scene`` with the geometry that ``like``, on the same grid, has already computed."""
    for name in (*GEOMETRY, "template_mm", "brain"):
        if name in like.__dict__:
            scene.__dict__[name] = like.__dict__[name]
    return scene


def _with_kept_geometry(scene: Scene, path: Path) -> Scene:
    if not path.is_file():
        log.info("geometry of %s", path.stem)
        _keep(scene, path)
    return _filled(scene, dict(np.load(path)))


def _filled(scene: Scene, kept: dict[str, NDArray[Any]]) -> Scene:
    for name in GEOMETRY:
        scene.__dict__[name] = kept[name].astype(np.float32)
    return scene


def _keep(scene: Scene, path: Path, **map_fields: NDArray[Any]) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        **map_fields,
        **{name: getattr(scene, name).astype(np.float16) for name in GEOMETRY},
    )
    part.replace(path)


def _unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def _on_a_grid(
    member: Member, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return tissue groups, body, spacing in mm and affine to the template on a random grid."""
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    new_spacing = _draw_spacing(rng)
    low, high = np.zeros(3), np.array(member.voxels.shape) * spacing
    margins = rng.uniform(8.0, 32.0, (2, 3))
    low, high = low - margins[0], high + margins[1]
    low[0] = rng.uniform(-10.0, 25.0)  # no air below the neck
    scale = np.clip(rng.normal(1.0, 0.06, 3), 0.85, 1.18)
    turn = Rotation.from_euler("xyz", rng.normal(0, 6.0, 3), degrees=True).as_matrix() @ np.diag(1 / scale)
    if rng.random() < 0.5:
        turn = turn @ np.diag([1.0, 1.0, -1.0])
    extent = (high - low) * scale
    shape = np.maximum(np.round(extent / new_spacing), 4)
    excess = float(np.prod(shape)) / MAX_VOXELS
    if excess > 1:
        new_spacing = new_spacing * excess ** (1 / 3)
        shape = np.maximum(np.round(extent / new_spacing), 4)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / spacing) @ turn @ np.diag(new_spacing)
    matrix[:3, 3] = ((low + high) / 2) / spacing - 0.5 - matrix[:3, :3] @ ((shape - 1) / 2)
    size = shape.astype(np.int64)
    groups = resample(member.voxels, matrix, size, order=0, outside="constant").astype(np.uint8)
    body = resample(member.body, matrix, size, order=0, outside="constant").astype(bool)
    assert member.to_template is not None
    return groups, body, np.linalg.norm((member.affine @ matrix)[:3, :3], axis=0), member.to_template @ matrix


def _draw_spacing(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a voxel size in mm: mostly isotropic, sometimes with thick slices in any plane."""
    draw = rng.random()
    if draw < THICK_SHARE:
        spacing = np.full(3, rng.uniform(0.9, 1.6))
        spacing[rng.choice(3, p=[0.6, 0.2, 0.2])] = rng.uniform(2.5, 6.0)
        return spacing
    fine = rng.uniform(0.95, 1.3) if draw < THICK_SHARE + FINE_SHARE else rng.uniform(1.3, 2.2)
    return np.full(3, fine) * rng.uniform(0.95, 1.05, 3)

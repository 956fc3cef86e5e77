"""The volumes that samples are drawn from, with their bodies, their registrations and the brain atlas.

Derived data is computed once from the data folder and stored in a work folder: labels as bits, registrations as JSON.
Registrations of the shared volumes come with the code, because they take 15 s of processor time each.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.atlas import (
    BrainAtlas,
    average_brain,
    keep_registrations,
    read_registrations,
    register_to_template,
)
from training.inventory import Entry, Scan, read_inventory, read_scan
from training.labels import label_foreground
from training.synthesis import BRAIN_GROUPS, group_labels, solid_body

log = logging.getLogger(__name__)

# Volumes whose automatic foreground label is wrong, judged by eye on three middle slices each.
NO_FOREGROUND_LABEL = frozenset(
    {
        "ct_avm",
        "stent_ct",
        "hrct_skull",
        "scct",
        "vtkjs_lidc2",
        "dcmqa_epi_cor",
        "dcmqa_epi_sag",
        "decub_dwi",
        "ge_b0map_mag",
        "nih_epi",
    }
)
KNOWN_REGISTRATIONS = Path(__file__).parent / "registrations.json"  # as `register_to_template` returned them
# Values of the inventory's column ``face`` for heads with a face, whole or in part; tools are simulated on these.
REGISTERED_FACES = ("intact", "see image")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One volume with its body and its registration.

    Attributes
    ----------
    voxels
        (slice, row, column) in network orientation; tissue groups for a label map.
    affine
        (4, 4) array index to LPS mm.
    body
        The foreground label, in the shape of ``voxels``.
    to_template
        (4, 4) array index to template LPS mm; None if the volume was not registered.
    """

    entry: Entry
    voxels: NDArray[np.float32] | NDArray[np.uint8]
    affine: NDArray[np.float64]
    body: NDArray[np.bool_]
    to_template: NDArray[np.float64] | None

    @property
    def is_labelmap(self) -> bool:
        """Whether the volume is a label map, from which images are rendered."""
        return self.entry.modality == "labels"

    @property
    def body_is_trusted(self) -> bool:
        """Whether ``body`` is good enough to train the foreground network."""
        return self.entry.id not in NO_FOREGROUND_LABEL

    @property
    def has_face(self) -> bool:
        """Whether the volume shows a face and was registered."""
        return self.to_template is not None and self.entry.face in REGISTERED_FACES


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The members of some splits, and the atlas made from the training label maps."""

    members: tuple[Member, ...]
    brain_atlas: BrainAtlas


def load_cohort(data: Path, work: Path, splits: frozenset[str]) -> Cohort:
    """Read the volumes of ``splits``; compute derived data that is not in ``work`` yet."""
    work.mkdir(parents=True, exist_ok=True)
    entries = read_inventory(data)
    registrations = read_registrations(KNOWN_REGISTRATIONS) | read_registrations(work / "registrations.json")
    atlas = _load_atlas(entries, work, registrations)
    members = [_load_member(entry, work, registrations) for entry in entries if entry.split in splits]
    return Cohort(tuple(members), atlas)


def _load_member(entry: Entry, work: Path, registrations: dict[str, NDArray[np.float64]]) -> Member:
    scan = _kept_scan(entry, work)
    if entry.modality == "labels":
        groups = group_labels(scan.voxels)
        body = _kept_body(entry, work, scan, groups)
        place = _kept_registration(entry, work, as_t1(groups, scan), registrations)
        return Member(entry, groups, scan.affine, body, place @ scan.affine)
    body = _kept_body(entry, work, scan, None)
    if entry.face not in REGISTERED_FACES:
        return Member(entry, scan.voxels, scan.affine, body, None)
    place = _kept_registration(entry, work, scan, registrations)
    return Member(entry, scan.voxels, scan.affine, body, place @ scan.affine)


def _kept_scan(entry: Entry, work: Path) -> Scan:
    """Return the volume from a decompressed and reoriented copy, so that a resumed run starts in seconds."""
    path = work / "scans" / f"{entry.id}.npz"
    if not path.is_file():
        scan = read_scan(entry.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, voxels=scan.voxels, affine=scan.affine)
    kept = np.load(path)
    return Scan(kept["voxels"], kept["affine"])


def _kept_body(entry: Entry, work: Path, scan: Scan, groups: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
    path = work / "labels" / f"{entry.id}.npz"
    if path.is_file():
        kept = np.load(path)
        shape = tuple(int(size) for size in kept["shape"])
        return np.unpackbits(kept["m"], count=int(np.prod(shape))).reshape(shape).astype(bool)
    log.info("foreground label of %s", entry.id)
    body = solid_body(groups) if groups is not None else label_foreground(scan, is_ct=entry.modality == "CT")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, m=np.packbits(body), shape=body.shape)
    return body


def _kept_registration(
    entry: Entry, work: Path, scan: Scan, registrations: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    if entry.id not in registrations:
        log.info("registration of %s", entry.id)
        registrations[entry.id] = register_to_template(scan)
        keep_registrations(work / "registrations.json", registrations)
    return registrations[entry.id]


def as_t1(groups: NDArray[np.uint8], scan: Scan, *, margin: int = 10) -> Scan:
    """Return a grouped label map with T1-like values and ``margin`` voxels of air around it, for registration."""
    levels = np.array([0, 130, 100, 20, 60, 90, 80, 160, 10, 120, 100], np.float32)
    shift = np.eye(4)
    shift[:3, 3] = -margin
    return Scan(np.pad(levels[groups], margin), scan.affine @ shift)


def _load_atlas(entries: list[Entry], work: Path, registrations: dict[str, NDArray[np.float64]]) -> BrainAtlas:
    path = work / "brain_atlas.npz"
    if not path.is_file():
        brains = []
        for entry in entries:
            if entry.modality == "labels" and entry.split == "train":
                scan = read_scan(entry.path)
                groups = group_labels(scan.voxels)
                place = _kept_registration(entry, work, as_t1(groups, scan), registrations)
                brains.append((np.isin(groups, BRAIN_GROUPS), place @ scan.affine))
        atlas = average_brain(brains)
        np.savez_compressed(path, probability=atlas.probability, affine=atlas.affine)
    kept = np.load(path)
    return BrainAtlas(kept["probability"], kept["affine"])

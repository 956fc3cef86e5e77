"""Divide the planes of a series into stacks: by size and orientation, then by contrast, then by repetition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.series.contrast import TRAITS, as_name
from inference.series.divide import Part, divide
from inference.series.duplicates import without_duplicates
from inference.series.errors import (
    DuplicatePositionsError,
    MixedOrientationError,
    MixedSizeError,
    StackError,
    TooFewSlicesError,
)
from inference.series.geometry import n_positions, twins_of
from inference.series.limits import MIN_SLICES
from inference.series.odd_planes import MOST_GROUPS, odd_plane_remarks, without_odd_planes
from inference.series.planes import Plane
from inference.series.remarks import Remark, RemarkCode
from inference.series.uids import shown_uid

# Direction cosines of parallel planes differ by rounding only; 0.001 rad moves a voxel 250 mm away by 0.25 mm.
PARALLEL_TOLERANCE = 1e-3
# Scanners that follow the head's motion turn each repetition of a mosaic a little; its tiles stay together anyhow.
MOTION_TOLERANCE = 0.1
SPACING_TOLERANCE = 1e-3  # relative
DIRECTIONS = ("sagittal", "coronal", "axial")
ORIENTATION, SIZE = "orientation", "size"


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Parallel planes with different positions, of one contrast at one time.

    Attributes
    ----------
    contrast
        Names and values that make it different from stacks of another contrast, orientation or size.
    repeat
        Names and values that distinguish it from other repetitions of the same image.
    traits
        Values that all its planes share, also where no other stack differs in them.
    """

    planes: tuple[Plane, ...]
    contrast: tuple[tuple[str, str], ...] = ()
    repeat: tuple[tuple[str, str], ...] = ()
    traits: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What it is called in results; empty where the series is one stack."""
        return as_name(dict((*self.contrast, *self.repeat[:1])))

    @property
    def n_voxels(self) -> int:
        """Size of all planes together."""
        first = self.planes[0]
        return len(self.planes) * first.rows * first.columns

    def value_of(self, trait: str) -> str:
        """Value of a trait that all planes share; empty where they don't, or it is unknown."""
        return dict(self.traits).get(trait, "")


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """All stacks of a series, and what was noticed while its planes were divided."""

    stacks: tuple[Stack, ...]
    remarks: tuple[Remark, ...] = ()


def stacks_of(planes: Sequence[Plane], series_instance_uid: str) -> Division:
    """Divide the planes of a series into stacks, in an order that doesn't depend on their own.

    Every plane is in exactly one stack, and no stack has two planes at one position; but for a plane that repeats
    another one, and for a few that are unlike all others, which are left out with a remark.

    Raises
    ------
    StackError
        The planes can't be divided so that each part is whole.
    """
    uid = series_instance_uid
    groups = _alike(planes)
    if len(groups) == 1:
        parts, remarks = _divided(groups[0], uid)
        return Division(tuple(_as_stacks(parts, ())), remarks)
    whole, odd = without_odd_planes(groups)
    try:
        divided = [_divided(group, uid) for group in whole]
    except StackError as error:
        raise _mixed(groups, uid) from error
    remarks = (*(remark for _, of_group in divided for remark in of_group), *odd_plane_remarks(odd, whole))
    names = _names_of_groups(whole) if len(whole) > 1 else [()]
    order = sorted(range(len(whole)), key=lambda index: (names[index], index))
    return Division(tuple(stack for index in order for stack in _as_stacks(divided[index][0], names[index])), remarks)


def _divided(planes: Sequence[Plane], uid: str) -> tuple[list[Part], tuple[Remark, ...]]:
    """Parts of planes that are alike, and whether planes were left out because they repeat others."""
    n_different = n_positions(planes)
    if n_different < MIN_SLICES:
        raise TooFewSlicesError(uid, n_different, MIN_SLICES)
    parts = divide(planes, is_complete_only=True)
    if parts is not None:
        return parts, ()
    for with_blank in (False, True):
        different = without_duplicates(planes, with_blank=with_blank)
        parts = divide(different)
        if parts is not None:
            break
    else:
        one, other = twins_of(different)
        uids = [shown_uid(str(plane.instance.header.SOPInstanceUID)) for plane in (one, other)]
        raise DuplicatePositionsError(uid, len(different), n_positions(different), *uids)
    n_repeats = len(planes) - len(different)
    if not n_repeats:
        return parts, ()
    text = f"{n_repeats} slices are there twice, with the same values under another SOP Instance UID; each counts once"
    return parts, (Remark(RemarkCode.REPEATED_SLICES, text),)


def _as_stacks(parts: Sequence[Part], group_name: tuple[tuple[str, str], ...]) -> Iterable[Stack]:
    is_contrast = {trait.name: trait.is_contrast for trait in TRAITS}
    for part in parts:
        contrast = tuple(pair for pair in part.differing if is_contrast.get(pair[0], False))
        repeat = tuple(pair for pair in part.differing if pair not in contrast)
        yield Stack(tuple(part.planes), (*group_name, *contrast), repeat, part.shared)


def _names_of_groups(groups: Sequence[Sequence[Plane]]) -> list[tuple[tuple[str, str], ...]]:
    """What to call groups that differ in orientation or size: by a word where that is enough, else with a number."""
    names: list[tuple[tuple[str, str], ...]] = []
    for group in groups:
        first = group[0]
        direction = DIRECTIONS[int(np.argmax(np.abs(first.normal)))]
        size = f"{first.columns}x{first.rows}"
        names.append(((ORIENTATION, direction), (SIZE, size)))
    if len({name[1] for name in names}) == 1:
        names = [name[:1] for name in names]
    elif len({name[0] for name in names}) == 1:
        names = [name[1:] for name in names]
    seen: dict[tuple[tuple[str, str], ...], int] = {}
    for index, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[index] = (*name, ("group", str(seen[name])))
    return names


def _alike(planes: Iterable[Plane]) -> list[list[Plane]]:
    """Groups of planes of one matrix size, pixel spacing and orientation, in order of first appearance."""
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _same_size(group[0], plane) and _parallel(group[0], plane):
                group.append(plane)
                break
        else:
            groups.append([plane])
            if len(groups) > MOST_GROUPS:  # a radial or rotating acquisition, not stacks
                break
    return groups


def _same_size(first: Plane, other: Plane) -> bool:
    return (first.rows, first.columns) == (other.rows, other.columns) and all(
        abs(a - b) <= SPACING_TOLERANCE * a for a, b in zip(first.spacing_mm, other.spacing_mm, strict=True)
    )


def _parallel(first: Plane, other: Plane) -> bool:
    are_tiles = first.tiles is not None and other.tiles is not None and first.instance is not other.instance
    tolerance = MOTION_TOLERANCE if are_tiles else PARALLEL_TOLERANCE
    return bool(
        abs(first.row_direction - other.row_direction).max() <= tolerance
        and abs(first.column_direction - other.column_direction).max() <= tolerance
    )


def _mixed(groups: Sequence[Sequence[Plane]], uid: str) -> StackError:
    """Name what differs between the groups."""
    orientations = 1 + sum(
        not any(_parallel(earlier[0], group[0]) for earlier in groups[:index])
        for index, group in enumerate(groups)
        if index
    )
    if orientations > 1:
        return MixedOrientationError(uid, orientations)
    sizes = sorted({f"{group[0].columns} x {group[0].rows}" for group in groups})
    spacings = sorted({f"{group[0].spacing_mm[0]:g} x {group[0].spacing_mm[1]:g} mm" for group in groups})
    return MixedSizeError(uid, ", ".join(sizes if len(sizes) > 1 else spacings))

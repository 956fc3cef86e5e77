"""Which planes of a series belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from inference.series.errors import (
    MixedOrientationError,
    MixedSizeError,
    MultipleTimePointsError,
    StackError,
)
from inference.series.geometry import StackGeometry, n_positions, stack_geometry
from inference.series.limits import MAX_STACKS, MIN_SLICES
from inference.series.planes import DISCRIMINATORS, Plane

# Direction cosines of parallel planes differ by rounding only; 0.001 rad moves a voxel 250 mm away by 0.25 mm.
PARALLEL_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-3  # relative


def stacks_of(planes: Sequence[Plane], series_instance_uid: str) -> tuple[StackGeometry, ...]:
    """Divide the planes of a series into whole stacks: by size and orientation, then by contrast or time.

    Every plane is in exactly one stack.

    Raises
    ------
    StackError
        The planes can't be divided so that each part is a volume.
    """
    uid = series_instance_uid
    groups = _alike(planes)
    if len(groups) == 1:
        stacks = _by_contrast(groups[0], uid)
    else:
        try:
            stacks = [stack for group in groups for stack in _by_contrast(group, uid)]
        except MultipleTimePointsError:
            raise
        except StackError as error:
            raise _mixed(groups, uid) from error
    if len(stacks) > MAX_STACKS:
        raise MultipleTimePointsError(uid, len(stacks), MAX_STACKS)
    return tuple(stacks)


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
            if len(groups) > MAX_STACKS * MIN_SLICES:  # a radial or rotating acquisition, not stacks
                break
    return groups


def _same_size(first: Plane, other: Plane) -> bool:
    return (first.pixel_format.rows, first.pixel_format.columns) == (
        other.pixel_format.rows,
        other.pixel_format.columns,
    ) and all(abs(a - b) <= SPACING_TOLERANCE * a for a, b in zip(first.spacing_mm, other.spacing_mm, strict=True))


def _parallel(first: Plane, other: Plane) -> bool:
    return bool(
        abs(first.row_direction - other.row_direction).max() <= PARALLEL_TOLERANCE
        and abs(first.column_direction - other.column_direction).max() <= PARALLEL_TOLERANCE
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
    formats = (group[0].pixel_format for group in groups)
    sizes = sorted({f"{pixel_format.columns} x {pixel_format.rows}" for pixel_format in formats})
    spacings = sorted({f"{group[0].spacing_mm[0]:g} x {group[0].spacing_mm[1]:g} mm" for group in groups})
    return MixedSizeError(uid, ", ".join(sizes if len(sizes) > 1 else spacings))


def _by_contrast(planes: Sequence[Plane], uid: str) -> list[StackGeometry]:
    """One stack where no two planes share a position, else those of the first attributes that divide cleanly."""
    if n_positions(planes) == len(planes):
        return [stack_geometry(planes, uid)]
    discriminators = {id(plane): plane.discriminators() for plane in planes}
    candidates = [index for index in range(len(DISCRIMINATORS)) if len({v[index] for v in discriminators.values()}) > 1]
    for n_attributes in (1, 2, 3):
        for chosen in combinations(candidates, n_attributes):
            parts = _divided(planes, [tuple(discriminators[id(plane)][index] for index in chosen) for plane in planes])
            if _is_clean(parts):
                if len(parts) > MAX_STACKS:
                    raise MultipleTimePointsError(uid, len(parts), MAX_STACKS)
                return [stack_geometry(part, uid) for part in parts]
    return [stack_geometry(planes, uid)]  # raises, with the reason


def _divided(planes: Sequence[Plane], keys: Sequence[tuple[str, ...]]) -> list[list[Plane]]:
    """Parts with equal keys, ordered by key so that the order of arrival doesn't matter."""
    parts: dict[tuple[str, ...], list[Plane]] = {}
    for plane, key in zip(planes, keys, strict=True):
        parts.setdefault(key, []).append(plane)
    return [parts[key] for key in sorted(parts, key=lambda key: [_in_order(text) for text in key])]


def _in_order(text: str) -> tuple[float, str]:
    """Sort numbers by value, texts after them."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _is_clean(parts: Sequence[Sequence[Plane]]) -> bool:
    """Whether every part holds each position once and is large enough."""
    return all(len(part) >= MIN_SLICES and n_positions(part) == len(part) for part in parts)

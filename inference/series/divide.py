"""Divide parallel planes of one size into images with one plane at each position.

Parts are distinguished by attributes if possible. If only the order of repetitions distinguishes them (GE's functional
series), this order must be the same at every position. Planes are never divided into incomplete images: slices that a
multi-band sequence acquired at one moment share a time, but are only a part of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from inference.series.contrast import REPETITION, TRAITS, order_keys, traits_of
from inference.series.geometry import position_indices
from inference.series.limits import MIN_SLICES
from inference.series.planes import Plane
from inference.series.slice_grid import slice_grid

MAX_TRAITS = 3  # combined to distinguish stacks
MAX_INTERLEAVED = 4
NEIGHBOURS = 2 * MAX_INTERLEAVED  # planes among which all interleaved images occur
# Of all positions, in an interleaved stack from its first to its last, and in the usual one where some are incomplete.
INTERLEAVED_SPAN = 0.75
INCOMPLETE_SHARE = 0.5

Codes = NDArray[np.intp]
# Interleaved planes at different positions are different images where these differ.
INTERLEAVED_TRAITS = frozenset(trait.name for trait in TRAITS if trait.is_contrast) | {"AcquisitionNumber"}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Planes of one image; ``differing`` and ``shared`` are names and values of traits, as in ``Stack``."""

    planes: list[Plane]
    differing: tuple[tuple[str, str], ...]
    shared: tuple[tuple[str, str], ...]


def divide(planes: Sequence[Plane], *, is_complete_only: bool = False) -> list[Part] | None:
    """Return parts ordered by contrast, then by time; None if the planes cannot be divided into complete images.

    Parameters
    ----------
    is_complete_only
        Whether each part must have a plane at every position.
    """
    if any(plane.tiles is not None for plane in planes):
        return _divide_mosaics(planes)
    positions = position_indices(planes)
    is_once = int(positions.max()) + 1 == len(planes)
    if is_once and not _may_be_interleaved(planes, positions):
        return [Part(list(planes), (), ())]
    table = _Table(planes, positions, [traits_of(plane) for plane in planes])
    if is_once:
        labels = table.interleaved()
        return table.parts(np.zeros(len(planes), np.intp) if labels is None else labels)
    for is_complete in (True,) if is_complete_only else (True, False):
        for labels in table.by_traits():
            if table.is_clean(labels, is_complete=is_complete):
                return table.parts(labels)
        for labels in table.by_order():
            if table.is_clean(labels, is_complete=is_complete):
                return table.parts(labels, is_by_order=True)
    return None


def _divide_mosaics(planes: Sequence[Plane]) -> list[Part] | None:
    """Divide mosaics, each of which is a part regardless of motion correction; divide other planes as usual."""
    mosaics: dict[int, list[Plane]] = {}
    others = []
    for plane in planes:
        if plane.tiles is None:
            others.append(plane)
        else:
            mosaics.setdefault(id(plane.instance), []).append(plane)
    first_tiles = [tiles[0] for tiles in mosaics.values()]  # which speak for all: reading traits takes its time
    labels = np.arange(len(first_tiles))
    parts = _Table(first_tiles, labels, [traits_of(tile) for tile in first_tiles]).parts(labels)
    parts = [replace(part, planes=mosaics[id(part.planes[0].instance)]) for part in parts]
    if len(parts) > 1 and not any(part.differing for part in parts):
        parts = _numbered(parts)
    if not others:
        return parts
    rest = divide(others) if len(others) >= MIN_SLICES else None
    return None if rest is None else [*parts, *rest]


def _may_be_interleaved(planes: Sequence[Plane], positions: Codes) -> bool:
    """Whether neighbours in the middle differ; a quick check, because reading the traits of all planes is slow."""
    order = np.argsort(positions)
    middle = len(planes) // 2
    near = order[max(0, middle - NEIGHBOURS // 2) : middle + NEIGHBOURS // 2]
    return len({traits_of(planes[int(index)]) for index in near}) > 1


class _Table:
    """Traits and positions of all planes as numbers."""

    def __init__(self, planes: Sequence[Plane], positions: Codes, values: Sequence[tuple[str, ...]]) -> None:
        self._planes = planes
        self._positions = positions
        self._values = values
        self.n_positions = int(positions.max()) + 1
        columns = list(zip(*values, strict=True))
        self._codes = [np.unique(column, return_inverse=True)[1].astype(np.intp) for column in columns]
        self._varying = [index for index, codes in enumerate(self._codes) if codes.max() > 0]

    def by_traits(self) -> Iterator[Codes]:
        """Yield divisions by one, two and three traits, the most distinctive first."""
        for n_traits in range(1, MAX_TRAITS + 1):
            for chosen in combinations(self._varying, n_traits):
                yield self._joined(chosen)

    def by_order(self) -> Iterator[Codes]:
        """Yield divisions by contrast, as fine as possible, and by the order of repetitions within each."""
        contrasts = [index for index in self._varying if TRAITS[index].is_contrast]
        keys = list(zip(*(order_keys(plane) for plane in self._planes), strict=True))
        for n_traits in range(min(MAX_TRAITS, len(contrasts)), -1, -1):
            for chosen in combinations(contrasts, n_traits):
                labels = self._joined(chosen)
                for column in keys:
                    ranks = self._ranks(labels, column)
                    if ranks is not None:
                        yield np.unique(labels * (int(ranks.max()) + 1) + ranks, return_inverse=True)[1]

    def is_clean(self, labels: Codes, *, is_complete: bool) -> bool:
        """Whether no part has two planes at one position, and the parts are complete images."""
        sizes = np.bincount(labels)
        pairs = labels * self.n_positions + self._positions
        if sizes.min() < MIN_SLICES or np.unique(pairs).size < pairs.size:
            return False
        return bool(
            sizes.min() == self.n_positions if is_complete else np.median(sizes) >= INCOMPLETE_SHARE * self.n_positions
        )

    def interleaved(self) -> Codes | None:
        """Return the division of planes at different positions that belong to several interleaved images."""
        along = np.array([plane.position_mm @ self._planes[0].normal for plane in self._planes])
        for index in self._varying:
            labels = self._codes[index]
            sizes = np.bincount(labels)
            if TRAITS[index].name not in INTERLEAVED_TRAITS or sizes.size > MAX_INTERLEAVED or sizes.min() < MIN_SLICES:
                continue
            parts = [np.sort(along[labels == label]) for label in range(sizes.size)]
            if all(np.ptp(part) >= INTERLEAVED_SPAN * np.ptp(along) for part in parts) and all(
                slice_grid(part - part[0]).is_even for part in parts
            ):
                return labels
        return None

    def parts(self, labels: Codes, *, is_by_order: bool = False) -> list[Part]:
        """Return the planes of each label, with their shared and their distinguishing values."""
        members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
        constant = [
            index for index, codes in enumerate(self._codes) if all(np.ptp(codes[member]) == 0 for member in members)
        ]
        differing = [index for index in constant if index in self._varying]
        owns = [self._values[int(member[0])] for member in members]
        shown = {index: _differing_values([own[index] for own in owns]) for index in differing}
        keyed = []
        for label, member in enumerate(members):
            own = owns[label]
            order = tuple(_in_order(own[index]) for index in differing)
            first = min(order_keys(self._planes[int(index)])[0] or (float("inf"),) for index in member)
            pairs = tuple((TRAITS[index].name, shown[index][label]) for index in differing)
            shared = tuple((TRAITS[index].name, own[index]) for index in constant)
            keyed.append(((order, first), Part([self._planes[int(index)] for index in member], pairs, shared)))
        parts = [part for _, part in sorted(keyed, key=lambda item: item[0])]
        return _numbered(parts) if is_by_order else parts

    def _joined(self, chosen: Sequence[int]) -> Codes:
        """Labels for equal values of all chosen traits."""
        labels = np.zeros(len(self._planes), np.intp)
        for index in chosen:
            codes = self._codes[index]
            labels = np.unique(labels * (int(codes.max()) + 1) + codes, return_inverse=True)[1].astype(np.intp)
        return labels

    def _ranks(self, labels: Codes, keys: Sequence[tuple[float, ...] | None]) -> Codes | None:
        """Return the rank of each plane among those of its label at its position; None if the order is inconsistent.

        The order is consistent if every repetition ends before the next begins, or if all repetitions of a position
        precede those of the next position.
        """
        places = set(zip(labels.tolist(), self._positions.tolist(), keys, strict=True))
        if any(key is None for key in keys) or len(places) < len(keys):
            return None
        order = sorted(range(len(keys)), key=lambda index: keys[index] or ())
        ranks = np.zeros(len(keys), np.intp)
        seen: dict[tuple[int, int], int] = {}
        for index in order:
            place = (int(labels[index]), int(self._positions[index]))
            ranks[index] = seen.get(place, 0)
            seen[place] = int(ranks[index]) + 1
        members: dict[int, list[int]] = {}
        for index in order:
            members.setdefault(int(labels[index]), []).append(index)
        for member in members.values():
            if np.any(np.diff(ranks[member]) < 0) and not _is_in_blocks(self._positions[member]):
                return None
        return ranks


def _numbered(parts: Sequence[Part]) -> list[Part]:
    """Name parts by their order."""
    return [
        replace(part, differing=(*part.differing, (REPETITION, str(number))))
        for number, part in enumerate(parts, start=1)
    ]


def _is_in_blocks(codes: Codes) -> bool:
    """Whether equal codes are adjacent."""
    return 1 + int(np.count_nonzero(np.diff(codes))) == np.unique(codes).size


def _differing_values(values: Sequence[str]) -> list[str]:
    """Return values without the components that are the same in all, as for Image Type."""
    split = [value.split("\\") for value in values]
    if len({len(parts) for parts in split}) > 1:
        return list(values)
    kept = [index for index in range(len(split[0])) if len({parts[index] for parts in split}) > 1]
    return ["\\".join(parts[index] for index in kept) for parts in split]


def _in_order(text: str) -> tuple[float, str]:
    """Sort numbers by value, texts after them."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text

"""Find slices that seem to be missing, from positions alone: evidence for waiting, not for geometry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

MIN_SLICES = 4  # three steps; with fewer, no step is typical
MAX_OFF = 0.2  # of a step; a wider step that is not a multiple belongs to separate stacks or an unusual geometry
MAX_ALONG_MM = 1e6  # a larger position is not plausible
POSITION_DIGITS = 2  # of millimetres; closer positions count as one
ORIENTATION_DIGITS = 3

Planes = Iterable[tuple[Sequence[float], Sequence[float]]]


def find_gap(planes: Planes) -> str | None:
    """Return where slices seem to be missing within a series, in words, or None.

    Parameters
    ----------
    planes
        Image Position (Patient) and Image Orientation (Patient) of each; planes of different orientation are treated
        separately, several at one position count once.
    """
    by_orientation: defaultdict[tuple[float, ...], set[float]] = defaultdict(set)
    for position, orientation in planes:
        normal = _normal(orientation)
        along = sum(n * p for n, p in zip(normal, position, strict=True))
        if not abs(along) <= MAX_ALONG_MM:
            continue
        key = tuple(round(cosine, ORIENTATION_DIGITS) for cosine in orientation)
        by_orientation[key].add(round(along, POSITION_DIGITS))
    for positions in by_orientation.values():
        gap = _widest_gap(sorted(positions))
        if gap is not None:
            return gap
    return None


def _widest_gap(positions: Sequence[float]) -> str | None:
    if len(positions) < MIN_SLICES:
        return None
    steps = [(after - before, before, after) for before, after in pairwise(positions)]
    usual = median(step for step, _, _ in steps)
    missing = [(round(step / usual) - 1, before, after) for step, before, after in steps if _is_multiple(step, usual)]
    if not missing:
        return None
    n_missing = sum(n for n, _, _ in missing)
    n_widest, before, after = max(missing)
    slices = "1 slice seems" if n_missing == 1 else f"{n_missing} slices seem"
    where = f"{before:.2f} and {after:.2f} mm" if n_missing == n_widest else f"{before:.2f} and {after:.2f} mm, say"
    return f"{slices} to be missing, between {where}"


def _is_multiple(step: float, usual: float) -> bool:
    ratio = step / usual
    return round(ratio) > 1 and abs(ratio - round(ratio)) <= MAX_OFF


def _normal(orientation: Sequence[float]) -> tuple[float, float, float]:
    a, b, c, d, e, f = orientation
    return (b * f - c * e, c * d - a * f, a * e - b * d)

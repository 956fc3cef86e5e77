"""Find repeated images: the same image at one position under two SOP Instance UIDs, copied or sent again.

Images are the same if their contrast and all measured values are equal, because two scans have different noise. Only
blank slices, with one value, can be equal in different images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from inference.series.contrast import TRAITS, traits_of
from inference.series.geometry import position_indices
from inference.series.measured import write_measured_values
from inference.series.planes import Plane
from inference.series.stored import stored_plane
from inference.series.tile_pixels import EncodedPlane, encoded_planes, plane_words


def without_duplicates(planes: Sequence[Plane], *, with_blank: bool) -> list[Plane]:
    """Return the planes without those that repeat another one at their position; the first of equal planes is kept.

    Only planes that share a position are decoded.

    Parameters
    ----------
    with_blank
        Whether blank slices repeat each other as well.
    """
    positions = position_indices(planes)
    seen: dict[int, list[int]] = {}
    for index, position in enumerate(positions.tolist()):
        seen.setdefault(position, []).append(index)
    reader = _Reader()
    dropped: set[int] = set()
    for indices in seen.values():
        if len(indices) > 1:
            dropped.update(_repeats(planes, indices, reader, with_blank=with_blank))
    return [plane for index, plane in enumerate(planes) if index not in dropped]


def _repeats(planes: Sequence[Plane], indices: Sequence[int], reader: _Reader, *, with_blank: bool) -> Iterator[int]:
    """Yield the planes at one position that are equal to an earlier one."""
    seen: set[object] = set()
    for index in indices:
        values = reader.values(planes[index])
        if not with_blank and (values == values.flat[0]).all():
            continue
        plane = planes[index]
        picture = plane.frame_of_reference_uid, _contrast_of(plane), hashlib.sha256(values.tobytes()).digest()
        if picture in seen:
            yield index
        seen.add(picture)


def _contrast_of(plane: Plane) -> tuple[str, ...]:
    return tuple(value for trait, value in zip(TRAITS, traits_of(plane), strict=True) if trait.is_contrast)


class _Reader:
    """Decodes single planes; caches the positions of the frames of the last instance."""

    def __init__(self) -> None:
        self._last: tuple[int, list[EncodedPlane]] | None = None

    def values(self, plane: Plane) -> NDArray[np.float32]:
        """Return measured values (row, column), with padding set to -1e38 so that it compares as equal."""
        if self._last is None or self._last[0] != id(plane.instance):
            self._last = id(plane.instance), encoded_planes(plane)
        stored = stored_plane(plane_words(self._last[1][plane.frame_index], plane), plane)
        values = np.empty((plane.rows, plane.columns), np.float32)
        write_measured_values(stored, plane, values)
        return np.nan_to_num(values, nan=-1e38)

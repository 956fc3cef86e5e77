"""A series with known truth, two masks on it, and reading a SEG back with another toolkit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from sr_writer.objects import AlgorithmIdentity, Lineage, WrittenObject
from sr_writer.segmentation import write_segmentation
from tests.factories import SyntheticSeries, ct_series

ALGORITHMS = {
    "foreground": AlgorithmIdentity("body foreground", "1.2.0", "a" * 64),
    "anonymized": AlgorithmIdentity("anonymized area", "0.9.1", "b" * 64),
}
WRITTEN_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
FOREGROUND_TYPE = ("38266002", "SCT")
ANONYMIZED_TYPE = ("ANON-AREA", "99DICOMNODE")


def headers_of(series: SyntheticSeries) -> list[Dataset]:
    """The datasets without their pixels."""
    headers = series.datasets()
    for ds in headers:
        del ds.PixelData
    return headers


def masks_on(shape: Sequence[int], seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks without any symmetry that overlap, with empty slices at both ends."""
    rng = np.random.default_rng(seed)
    foreground = rng.random(shape) < 0.3
    foreground[0] = foreground[-1] = False
    foreground[1:-1, : shape[1] // 2, : shape[2] // 3] = True
    anonymized = np.zeros(shape, dtype=bool)
    anonymized[shape[0] // 2 : -1, shape[1] // 3 :, : shape[2] // 2] = (
        rng.random(anonymized[shape[0] // 2 : -1, shape[1] // 3 :, : shape[2] // 2].shape) < 0.6
    )
    return foreground, anonymized


def lineage_of(series_instance_uid: str, **changes: Any) -> Lineage:
    values = {"generation": 1, "stack_number": 1, "pipeline_digest": "c" * 64} | changes
    return Lineage(series_instance_uid=series_instance_uid, **values)


def write(
    headers: Sequence[Dataset],
    geometry: hd.VolumeGeometry,
    foreground: NDArray[np.bool_],
    anonymized: NDArray[np.bool_],
    **options: Any,
) -> WrittenObject | None:
    """Call the writer with settled lineage, algorithms and time."""
    arguments = {
        "algorithms": ALGORITHMS,
        "lineage": lineage_of(str(headers[0].SeriesInstanceUID)),
        "written_at": WRITTEN_AT,
    } | options
    return write_segmentation(headers, geometry, foreground, anonymized, **arguments)


def write_phantom(series: SyntheticSeries | None = None, **options: Any) -> tuple[WrittenObject, Dataset]:
    """SEG of both masks on a small series, as written and as read back."""
    series = series or ct_series(7, rows=11, columns=13)
    written = write(headers_of(series), series.truth.get_geometry(), *masks_on(series.voxels.shape), **options)
    assert written is not None
    return written, dcmread(BytesIO(written.part10()))


def lps_points(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> set[tuple[float, ...]]:
    """LPS positions in mm of the voxels of a mask, rounded to 0.001 mm."""
    index = np.argwhere(mask)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return set(map(tuple, np.round(points, 3) + 0.0))


def read_with_highdicom(part10: bytes) -> dict[tuple[str, str], set[tuple[float, ...]]]:
    """LPS points of every segment, by the code of its type."""
    seg = hd.seg.Segmentation.from_dataset(dcmread(BytesIO(part10)), copy=False)
    volume = seg.get_volume(combine_segments=False)
    points = {}
    for channel, number in enumerate(seg.segment_numbers):
        code = seg.get_segment_description(number).segmented_property_type
        points[code.value, code.scheme_designator] = lps_points(volume.array[..., channel] > 0, volume.affine)
    return points

"""A stack of a series as a volume, and where each of its planes came from."""

from __future__ import annotations

from dataclasses import dataclass

import highdicom as hd
from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class FrameReference:
    """The instance, and its frame where it has several, that a plane was read from."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something noticed on the way that did not stop the series; ``code`` is stable."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class SourceVolume:
    """One stack of a series, or one NIfTI file.

    Attributes
    ----------
    volume
        (slice, row, column) float32, Hounsfield units for CT; slices in ascending order along the cross product of
        the row and column directions; affine from array index to LPS mm.
    plane_sources
        One per slice, in array order; empty for NIfTI.
    headers
        Source datasets without pixel data, overlays and bulky private values: one per slice in array order for
        single-frame instances, one per instance for multi-frame ones; empty for NIfTI.
    modality
        ``CT``, ``MR``, or empty when unknown (NIfTI).
    stack_number
        Counts from 1 within the series.
    """

    volume: hd.Volume
    plane_sources: tuple[FrameReference, ...]
    headers: tuple[Dataset, ...]
    modality: str
    series_instance_uid: str | None
    stack_number: int = 1
    remarks: tuple[Remark, ...] = ()

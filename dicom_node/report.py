"""Findings in one volume as numbers and words: ``report.json`` and the lines below the overlay.

Both segments are always named, even if one was not found. Everything except ``timings_s`` depends on
the input and the models alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import dicom_node
from dicom_node.report_text import VERDICT_WORDS
from inference.models import ModelIdentity
from inference.series.remarks import Remark, RemarkCode
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict, Verdict
from sr_writer.identity import InvalidValue, invalid_identity
from sr_writer.objects import ROLES, Role, WrittenObject

if TYPE_CHECKING:  # the web server reads reports too, and needs no PyTorch
    from inference.segment import Segmentation

ML_DIGITS = 3
SECONDS_DIGITS = 3
PROBABILITY_DIGITS = 4


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """What was found of one role.

    Attributes
    ----------
    segment_number
        In the SEG, counting from 1; None where the segment is empty and left out.
    n_voxels
        As the SEG holds them, frame by frame.
    decided_by
        What drew the mask; None where nothing was decided.
    """

    role: Role
    is_found: bool
    segment_number: int | None
    n_voxels: int
    volume_ml: float
    decided_by: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one volume.

    Attributes
    ----------
    shape
        (slice, row, column) of the volume.
    n_frames
        Of the source; volumes made of leaning or uneven frames have another number of slices.
    spacing_mm
        In array-axis order: between slices, rows, columns.
    complete_because
        Why the series counted as complete; None where nobody waited for it, as in an offline run.
    """

    name: str
    series_instance_uid: str | None
    generation: int
    stack_number: int
    stack_name: str
    n_stacks: int
    modality: str | None
    shape: tuple[int, ...]
    n_frames: int
    spacing_mm: tuple[float, ...]
    verdict: Verdict
    segments: tuple[FoundSegment, ...]  # one for each of `ROLES`, in their order
    remarks: tuple[Remark, ...]
    models: tuple[ModelIdentity, ...]
    objects: tuple[WrittenObject, ...]
    pipeline_digest: str
    timings_s: Mapping[str, float]
    complete_because: str | None = None

    @property
    def remark_codes(self) -> frozenset[RemarkCode]:
        """What was remarked on, without the words."""
        return frozenset(remark.code for remark in self.remarks)

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``report.json`` holds it; plain JSON types only."""
        ml = {f"{segment.role}_ml": segment.volume_ml for segment in self.segments}
        because = {} if self.complete_because is None else {"complete_because": self.complete_because}
        return {
            "name": self.name,
            "series_instance_uid": self.series_instance_uid,
            "generation": self.generation,
            "stack_number": self.stack_number,
            "stack_name": self.stack_name,
            "n_stacks": self.n_stacks,
            "modality": self.modality,
            "shape": list(self.shape),
            "n_frames": self.n_frames,
            "spacing_mm": list(self.spacing_mm),
            "verdict": str(self.verdict.verdict),
            "probability": round(float(self.verdict.probability), PROBABILITY_DIGITS),
            "reasons": list(self.verdict.reasons),
            **ml,
            "segments": [asdict(segment) for segment in self.segments],
            "decided_by": {segment.role: segment.decided_by for segment in self.segments if segment.decided_by},
            "remarks": [{"code": str(remark.code), "text": remark.text} for remark in self.remarks],
            "models": [asdict(model) for model in self.models],
            "objects": [
                {
                    "sop_class_uid": written.sop_class_uid,
                    "sop_instance_uid": written.sop_instance_uid,
                    "series_instance_uid": written.series_instance_uid,
                }
                for written in self.objects
            ],
            "pipeline_digest": self.pipeline_digest,
            "node_version": dicom_node.__version__,
            "timings_s": {stage: round(seconds, SECONDS_DIGITS) for stage, seconds in self.timings_s.items()},
            **because,
        }


def found_segments(source: SourceVolume, segmentation: Segmentation) -> tuple[FoundSegment, ...]:
    """Return what was found of each of `ROLES`, numbered as in the SEG."""
    masks: dict[Role, NDArray[np.bool_]] = {
        "foreground": segmentation.foreground,
        "anonymized": segmentation.anonymized,
    }
    frames = source.frames
    n_voxels = {
        role: int(np.count_nonzero(mask if frames is None else frames.on_frames(mask))) for role, mask in masks.items()
    }
    in_seg = [role for role in ROLES if n_voxels[role]]
    return tuple(
        FoundSegment(
            role=role,
            is_found=bool(masks[role].any()),
            segment_number=in_seg.index(role) + 1 if role in in_seg else None,
            n_voxels=n_voxels[role],
            volume_ml=mask_ml(masks[role], source),
            decided_by=segmentation.decided_by.get(role),
        )
        for role in ROLES
    )


def build_report(
    source: SourceVolume,
    segmentation: Segmentation,
    segments: tuple[FoundSegment, ...],
    remarks: tuple[Remark, ...],
    objects: Sequence[WrittenObject],
    *,
    name: str,
    generation: int,
    n_stacks: int,
    pipeline_digest: str,
    timings_s: Mapping[str, float],
) -> Report:
    """Return the report of one volume."""
    frames = source.frames
    return Report(
        name=name,
        series_instance_uid=source.series_instance_uid,
        generation=generation,
        stack_number=source.stack_number,
        stack_name=source.stack_name,
        n_stacks=n_stacks,
        modality=source.modality,
        shape=tuple(source.volume.spatial_shape),
        n_frames=source.volume.spatial_shape[0] if frames is None else len(frames.first_indices),
        spacing_mm=tuple(round(float(spacing), 6) for spacing in source.volume.spacing),
        verdict=segmentation.verdict,
        segments=segments,
        remarks=remarks,
        models=tuple(segmentation.models),
        objects=tuple(objects),
        pipeline_digest=pipeline_digest,
        timings_s=timings_s,
    )


def remarks_on(source: SourceVolume, segmentation: Segmentation) -> tuple[Remark, ...]:
    """Return what was noticed on the source's identity, while reading and while segmenting, each remark once."""
    invalid = invalid_identity(source.headers[0]) if source.headers else ()
    return tuple(dict.fromkeys((*source.remarks, *segmentation.remarks, *map(_remark_on_identity, invalid))))


def _remark_on_identity(invalid: InvalidValue) -> Remark:
    outcome = "kept as received" if invalid.is_kept else "left out"
    text = f"{invalid.attribute} of the source is not valid as {invalid.vr}; in SEG and SR it is {outcome}"
    return Remark(RemarkCode.IDENTITY_NOT_VALID, text)


def mask_ml(mask: NDArray[np.bool_], source: SourceVolume) -> float:
    """Return the volume of a mask on the source grid in mL; whole voxels count, including the gaps between slices."""
    voxel_mm3 = abs(float(np.linalg.det(source.volume.affine[:3, :3])))
    return round(np.count_nonzero(mask) * voxel_mm3 / 1000.0, ML_DIGITS)


def caption(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return two lines for the overlay, which say only what was found and nothing about safety."""
    verdict = SeriesVerdict(report["verdict"])
    area_ml = report["anonymized_ml"]
    area = f"anonymised area found: {area_ml:.1f} mL" if area_ml else "no anonymised area found"
    return (
        f"verdict: {verdict} ({VERDICT_WORDS[verdict]}; probability {report['probability']:.2f})",
        f"foreground: {report['foreground_ml']:.0f} mL · {area}",
    )


def encode_report(report: Mapping[str, Any]) -> bytes:
    """Return the bytes of ``report.json``; the same report produces the same bytes."""
    return (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

"""What was found in one volume, as numbers and words: ``report.json`` and the lines below the overlay.

Both segments are always named, also where one was looked for and not found. Everything but ``timings_s`` depends on
the input and the models alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dicom_node
from inference.segment import Segmentation
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict
from sr_writer.objects import ROLES, WrittenObject

ML_DIGITS = 3
SECONDS_DIGITS = 3
PROBABILITY_DIGITS = 4

_VERDICT_WORDS: Mapping[SeriesVerdict, str] = {
    SeriesVerdict.DEFACED: "the anonymised area covers the face",
    SeriesVerdict.FACE_PRESENT: "a face is present",
    SeriesVerdict.INDETERMINATE: "indeterminate, a person must look",
    SeriesVerdict.NOT_APPLICABLE: "no face in the field of view",
}


def build_report(
    source: SourceVolume,
    segmentation: Segmentation,
    objects: Sequence[WrittenObject],
    *,
    name: str,
    generation: int,
    n_stacks: int,
    pipeline_digest: str,
    timings_s: Mapping[str, float],
) -> dict[str, Any]:
    """Report of one volume; plain JSON types only."""
    found = {"foreground": segmentation.foreground, "anonymized": segmentation.anonymized}
    ml = {role: mask_ml(mask, source) for role, mask in found.items()}
    frames = source.frames
    n_voxels = {
        role: int(np.count_nonzero(mask if frames is None else frames.on_frames(mask))) for role, mask in found.items()
    }  # as the SEG holds them, frame by frame
    in_seg = [role for role in ROLES if n_voxels[role]]
    remarks = {(remark.code, remark.text): None for remark in (*source.remarks, *segmentation.remarks)}
    return {
        "name": name,
        "series_instance_uid": source.series_instance_uid,
        "generation": generation,
        "stack_number": source.stack_number,
        "stack_name": source.stack_name,
        "n_stacks": n_stacks,
        "modality": source.modality,
        "shape": list(source.volume.spatial_shape),
        "n_frames": source.volume.spatial_shape[0] if frames is None else len(frames.first_indices),
        "spacing_mm": [round(float(spacing), 6) for spacing in source.volume.spacing],
        "verdict": str(segmentation.verdict.verdict),
        "probability": round(float(segmentation.verdict.probability), PROBABILITY_DIGITS),
        "reasons": list(segmentation.verdict.reasons),
        "foreground_ml": ml["foreground"],
        "anonymized_ml": ml["anonymized"],
        "segments": [
            {
                "role": role,
                "is_found": bool(found[role].any()),
                "segment_number": in_seg.index(role) + 1 if role in in_seg else None,
                "n_voxels": n_voxels[role],
                "volume_ml": ml[role],
                "decided_by": segmentation.decided_by.get(role),
            }
            for role in ROLES
        ],
        "decided_by": dict(segmentation.decided_by),
        "remarks": [{"code": code, "text": text} for code, text in remarks],
        "models": [
            {"role": model.role, "name": model.name, "version": model.version, "sha256": model.sha256}
            for model in segmentation.models
        ],
        "objects": [
            {
                "sop_class_uid": written.sop_class_uid,
                "sop_instance_uid": written.sop_instance_uid,
                "series_instance_uid": written.series_instance_uid,
            }
            for written in objects
        ],
        "pipeline_digest": pipeline_digest,
        "node_version": dicom_node.__version__,
        "timings_s": {stage: round(seconds, SECONDS_DIGITS) for stage, seconds in timings_s.items()},
    }


def mask_ml(mask: NDArray[np.bool_], source: SourceVolume) -> float:
    """Volume of a mask on the source grid in mL, counting whole voxels, also those between slices far apart."""
    voxel_mm3 = abs(float(np.linalg.det(source.volume.affine[:3, :3])))
    return round(np.count_nonzero(mask) * voxel_mm3 / 1000.0, ML_DIGITS)


def caption(report: Mapping[str, Any]) -> tuple[str, str]:
    """Two lines for below the overlay; never a word on safety, only on what was found."""
    verdict = SeriesVerdict(report["verdict"])
    area_ml = report["anonymized_ml"]
    area = f"anonymised area found: {area_ml:.1f} mL" if area_ml else "no anonymised area found"
    return (
        f"verdict: {verdict} ({_VERDICT_WORDS[verdict]}; probability {report['probability']:.2f})",
        f"foreground: {report['foreground_ml']:.0f} mL · {area}",
    )


def encode_report(report: Mapping[str, Any]) -> bytes:
    """The bytes of ``report.json``; the same report gives the same bytes."""
    return (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

"""What a job leaves behind, from what the models found: results, verdicts and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)

from dicom_node.processing import ProcessedVolume
from dicom_node.store import NewResult, NewVerdict, Outcome, SeriesRow
from inference.verdict.verdict import SeriesVerdict

KINDS = {
    SegmentationStorage: "seg",
    ComprehensiveSRStorage: "sr",
    Comprehensive3DSRStorage: "sr",
    EnhancedSRStorage: "sr",
    KeyObjectSelectionDocumentStorage: "kos",
}
# Of several stacks the one that asks for the most care speaks for the series.
CARE = (
    SeriesVerdict.FACE_PRESENT,
    SeriesVerdict.INDETERMINATE,
    SeriesVerdict.DEFACED,
    SeriesVerdict.NOT_APPLICABLE,
)


def outcome_of(volumes: Sequence[ProcessedVolume], deliver_to: tuple[str, ...], *, series: SeriesRow) -> Outcome:
    """All that the volumes of one series leave in the store, each result bound for each peer.

    The reports say why the series counted as complete, and remark on it where that is in doubt.
    """
    verdicts = {volume.segmentation.verdict.verdict for volume in volumes}
    return Outcome(
        results=tuple(
            NewResult(
                kind=KINDS[UID(written.sop_class_uid)],
                stack_number=volume.source.stack_number,
                sop_class_uid=written.sop_class_uid,
                sop_instance_uid=written.sop_instance_uid,
                transfer_syntax_uid=written.transfer_syntax_uid,
                encoded_dataset=written.encoded_dataset,
            )
            for volume in volumes
            for written in volume.objects
        ),
        verdicts=tuple(
            NewVerdict(
                stack_number=volume.source.stack_number,
                verdict=volume.segmentation.verdict.verdict.value,
                probability=volume.segmentation.verdict.probability,
                reasons=volume.segmentation.verdict.reasons,
                report=_report(volume, series),
            )
            for volume in volumes
        ),
        tags={"verdict": next(verdict for verdict in CARE if verdict in verdicts).value},
        deliver_to=deliver_to,
    )


def _report(volume: ProcessedVolume, series: SeriesRow) -> dict[str, Any]:
    report = {**volume.report, "complete_because": series.complete_because}
    if series.is_doubted:
        remark = {"code": "completeness-doubted", "text": str(series.complete_because)}
        report["remarks"] = [*report.get("remarks", ()), remark]
    return report

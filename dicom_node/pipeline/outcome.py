"""Turn the findings of the models into the outcome of a job: results, verdicts and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)

from dicom_node.gate.severity import Standing, most_severe
from dicom_node.report import Report
from dicom_node.store import NewResult, NewVerdict, Outcome, SeriesRow
from inference.series.remarks import Remark, RemarkCode
from sr_writer.objects import WrittenObject

KINDS = {
    SegmentationStorage: "seg",
    ComprehensiveSRStorage: "sr",
    Comprehensive3DSRStorage: "sr",
    EnhancedSRStorage: "sr",
    KeyObjectSelectionDocumentStorage: "kos",
}


class VolumeResult(Protocol):
    """What a job keeps of one volume, computed here or on a cluster."""

    @property
    def report(self) -> Report:
        """What was found."""
        ...

    @property
    def objects(self) -> tuple[WrittenObject, ...]:
        """SEG and SR, proved."""
        ...


def outcome_of(
    volumes: Sequence[VolumeResult],
    deliver_to: tuple[str, ...],
    *,
    series: SeriesRow,
    kinds_by_peer: Mapping[str, frozenset[str]],
) -> Outcome:
    """Return the outcome for the volumes of one series; each result goes to each peer that takes its kind.

    The reports say why the series counted as complete.
    """
    reports = [replace(volume.report, complete_because=series.complete_because) for volume in volumes]
    standings = {Standing(report.verdict.verdict.value) for report in reports}
    return Outcome(
        results=tuple(
            NewResult(
                kind=KINDS[UID(written.sop_class_uid)],
                stack_number=volume.report.stack_number,
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
                stack_number=report.stack_number,
                verdict=report.verdict.verdict.value,
                probability=report.verdict.probability,
                reasons=report.verdict.reasons,
                remark_codes=frozenset(str(code) for code in report.remark_codes),
                report=report.as_json(),
            )
            for report in reports
        ),
        tags={"verdict": most_severe(standings).value},
        deliver_to=deliver_to,
        kinds_by_peer=kinds_by_peer,
    )


def remarks_on_completeness(series: SeriesRow) -> tuple[Remark, ...]:
    """Return a remark if it is in doubt whether the series is complete."""
    return (Remark(RemarkCode.COMPLETENESS_DOUBTED, str(series.complete_because)),) if series.is_doubted else ()

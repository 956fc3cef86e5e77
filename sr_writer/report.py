"""Write the findings in one volume as a structured report (PS3.16 TID 1500), for archives and programs that read SR.

It is written for every processed volume, also if both masks are empty: without it, an archive could not distinguish
"processed, nothing found" from "never processed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import highdicom.sr as sr
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage, SegmentationStorage

from sr_writer.codes import (
    ARTIFICIAL_INTELLIGENCE,
    FACE,
    FACE_VERDICT,
    MILLILITER,
    NO_UNITS,
    PERCENT,
    PROCEDURES,
    SEGMENT_TERMS,
    SHARE_OF_BODY,
    VERDICT_PROBABILITY,
    VERDICTS,
    VOLUME,
)
from sr_writer.objects import (
    MANUFACTURER,
    MANUFACTURER_MODEL_NAME,
    ROLES,
    AlgorithmIdentity,
    Lineage,
    Predecessor,
    Role,
    WrittenObject,
)
from sr_writer.result_header import check_source_header, describe_result, encode_result
from sr_writer.sources import PlaneSource
from sr_writer.uids import derive_uid

REPORT_SERIES_NUMBER_OFFSET: Final = 9500  # sorts reports after the segmentations
_ML_DIGITS: Final = 3
_PERCENT_DIGITS: Final = 2
_PROBABILITY_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Findings:
    """Content of the report on one volume.

    Attributes
    ----------
    volumes_ml
        Volume of each role's mask on the source grid, not rounded; above 0 if the mask has any voxel.
    verdict
        ``defaced``, ``face_present``, ``indeterminate`` or ``not_applicable``.
    probability
        Probability that the verdict is right, 0 to 1.
    verdict_parameters
        Thresholds and calibration of the verdict, each as ``name=value``.
    """

    volumes_ml: Mapping[Role, float]
    verdict: str
    probability: float
    verdict_parameters: tuple[str, ...] = ()


def write_report(
    headers: Sequence[Dataset],
    segmentation: WrittenObject | None,
    findings: Findings,
    *,
    algorithms: Mapping[Role, AlgorithmIdentity],
    lineage: Lineage,
    written_at: datetime,
    plane_sources: Sequence[PlaneSource],
    predecessors: Sequence[Predecessor] = (),
    stack_name: str = "",
) -> WrittenObject:
    """Write the report on one stack (Comprehensive SR; it has no 3D coordinates).

    Parameters
    ----------
    headers
        Source datasets, without their pixels.
    segmentation
        The SEG of the same masks; None if both are empty. Its segments are numbered in the order of `ROLES`, without
        empty masks.
    written_at
        Time-zone aware; the time of the job, so that a repeated job writes the same bytes.
    plane_sources
        The source frame of each slice of the masks.
    predecessors
        Earlier reports that this one replaces.
    stack_name
        Name of the stack among others of its series, in plain ASCII; appended to Series Description.

    Raises
    ------
    SourceHeaderError
        A source lacks an attribute that every derived object needs.

    References
    ----------
    PS3.16 TID 1500, 1411 (with a segment), 1501 (without), 4019; IHE AI Results (AIR).
    """
    header = headers[0]
    check_source_header(header, lineage)
    sources = list(dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in plane_sources))
    present = [role for role in ROLES if findings.volumes_ml[role] > 0.0] if segmentation is not None else []
    groups = [
        _group(role, present, segmentation, findings, algorithms[role], lineage, sources, str(header.SeriesInstanceUID))
        for role in ROLES
    ]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(lineage)),
        procedure_reported=PROCEDURES.get(str(header.get("Modality") or ""), PROCEDURES["MR"]),
        imaging_measurements=groups,
        title=CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )
    ds = describe_result(header, lineage, written_at, modality="SR", series_number_offset=REPORT_SERIES_NUMBER_OFFSET)
    ds.SOPClassUID = ComprehensiveSRStorage
    ds.SeriesInstanceUID = lineage.derive_for_series("sr-series")
    ds.SeriesDescription = "Foreground and anonymized area: report" + (f", {stack_name}" if stack_name else "")[:20]
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "FINAL"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(header, segmentation, sources)
    if predecessors:
        ds.PredecessorDocumentsSequence = _predecessors(str(header.StudyInstanceUID), predecessors)
    for element in content[0]:
        ds[element.tag] = element
    return encode_result(ds, lineage, "sr")


def _group(
    role: Role,
    present: Sequence[Role],
    segmentation: WrittenObject | None,
    findings: Findings,
    algorithm: AlgorithmIdentity,
    lineage: Lineage,
    sources: Iterable[tuple[str, str]],
    series_instance_uid: str,
) -> sr.MeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the measurement group of one mask: TID 1411 with its segment, or TID 1501 if it is empty."""
    terms = SEGMENT_TERMS[role]
    # The same region of the same series keeps its tracking UID, regardless of generation and pipeline.
    tracking_uid = derive_uid("tracking", lineage.series_instance_uid, str(lineage.stack_number), role)
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=tracking_uid, identifier=f"{role}, stack {lineage.stack_number}"
        ),
        "finding_type": terms.property_type,
        "finding_sites": [sr.FindingSite(anatomic_location=FACE)] if role == "anonymized" else None,
        "algorithm_id": sr.AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=[
                f"weights_sha256={algorithm.sha256}",
                *(findings.verdict_parameters if role == "anonymized" else ()),
            ],
            family=ARTIFICIAL_INTELLIGENCE,
        ),
        "measurements": _measurements(role, findings),
        "qualitative_evaluations": [sr.QualitativeEvaluation(name=FACE_VERDICT, value=VERDICTS[findings.verdict])]
        if role == "anonymized"
        else None,
    }
    if segmentation is not None and role in present:
        segment = sr.ReferencedSegment(
            sop_class_uid=SegmentationStorage,
            sop_instance_uid=segmentation.sop_instance_uid,
            segment_number=list(present).index(role) + 1,
            source_series=sr.SourceSeriesForSegmentation(UID(series_instance_uid)),
        )
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)
    images = [sr.SourceImageForMeasurementGroup(sop_class_uid, uid) for sop_class_uid, uid in sources]
    return sr.MeasurementsAndQualitativeEvaluations(source_images=images, **common)


def _measurements(role: Role, findings: Findings) -> list[sr.Measurement]:
    volume_ml = findings.volumes_ml[role]
    measurements = [sr.Measurement(name=VOLUME, value=round(volume_ml, _ML_DIGITS), unit=MILLILITER)]
    if role == "anonymized":
        whole_ml = findings.volumes_ml["foreground"]
        if whole_ml > 0.0:
            share = round(100.0 * volume_ml / whole_ml, _PERCENT_DIGITS)
            measurements.append(sr.Measurement(name=SHARE_OF_BODY, value=share, unit=PERCENT))
        probability = round(findings.probability, _PROBABILITY_DIGITS)
        measurements.append(sr.Measurement(name=VERDICT_PROBABILITY, value=probability, unit=NO_UNITS))
    return measurements


def _observer(lineage: Lineage) -> sr.ObserverContext:
    """Return the observing device, which is this pipeline; another pipeline is another observer."""
    return sr.ObserverContext(
        observer_type=CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=derive_uid("observer", lineage.pipeline_digest),
            name=MANUFACTURER_MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=MANUFACTURER_MODEL_NAME,
            serial_number=lineage.pipeline_digest[:16],
        ),
    )


def _evidence(header: Dataset, segmentation: WrittenObject | None, sources: Sequence[tuple[str, str]]) -> list[Dataset]:
    """Return all objects that the report refers to, by study and series (PS3.3 C.17.2)."""
    series = [_series_item(str(header.SeriesInstanceUID), sources)]
    if segmentation is not None:
        series.append(
            _series_item(
                segmentation.series_instance_uid, [(segmentation.sop_class_uid, segmentation.sop_instance_uid)]
            )
        )
    item = Dataset()
    item.StudyInstanceUID = str(header.StudyInstanceUID)
    item.ReferencedSeriesSequence = series
    return [item]


def _predecessors(study_instance_uid: str, predecessors: Sequence[Predecessor]) -> list[Dataset]:
    item = Dataset()
    item.StudyInstanceUID = study_instance_uid
    item.ReferencedSeriesSequence = [
        _series_item(one.series_instance_uid, [(one.sop_class_uid, one.sop_instance_uid)]) for one in predecessors
    ]
    return [item]


def _series_item(series_instance_uid: str, instances: Iterable[tuple[str, str]]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        item.ReferencedSOPSequence.append(reference)
    return item

"""Write the findings in one volume as a structured report (PS3.16 TID 1500), for archives and programs that read SR.

It is written for every processed volume, also if both masks are empty: without it, an archive could not distinguish
"processed, nothing found" from "never processed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias

import highdicom.sr as sr
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage, SegmentationStorage

from sr_writer.codes import (
    ARTIFICIAL_INTELLIGENCE,
    COMMENT,
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
from sr_writer.references import Reference, hierarchical_references
from sr_writer.result_header import (
    REPLACES_EARLIER,
    check_source_header,
    describe_result,
    encode_result,
    series_number_after,
)
from sr_writer.sources import PlaneSource
from sr_writer.uids import derive_uid

SERIES_DESCRIPTION: Final = "Foreground and anonymized area: report"
REPORT_SERIES_NUMBER_OFFSET: Final = 9500  # sorts reports after the segmentations
_Group: TypeAlias = sr.MeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
_ML_DIGITS: Final = 3
_PERCENT_DIGITS: Final = 2
_PROBABILITY_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Findings:
    """Content of the report on one volume.

    Attributes
    ----------
    volumes_ml
        Volume of each role's mask on the source grid; 0 if it is empty.
    verdict
        ``defaced``, ``face_present``, ``indeterminate`` or ``not_applicable``.
    probability
        Probability that the verdict is right, 0 to 1.
    verdict_parameters
        Thresholds and calibration of the verdict, each as ``name=value``.
    comments
        Sentences for people: the reasons of the verdict, and what was noticed on the way. Characters beyond ASCII are
        written as ``?``, because the character set of the source may not have them.
    """

    volumes_ml: Mapping[Role, float]
    verdict: str
    probability: float
    verdict_parameters: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


def write_report(
    headers: Sequence[Dataset],
    segmentation: WrittenObject | None,
    findings: Findings,
    *,
    segment_numbers: Mapping[Role, int],
    algorithms: Mapping[Role, AlgorithmIdentity],
    lineage: Lineage,
    written_at: datetime,
    plane_sources: Sequence[PlaneSource],
    predecessors: Sequence[Predecessor] = (),
) -> WrittenObject:
    """Write the report on one stack (Comprehensive SR; it has no 3D coordinates).

    Parameters
    ----------
    headers
        Source datasets, without their pixels.
    segmentation
        The SEG of the same masks; None if both are empty.
    segment_numbers
        Numbers of the segments in it, from 1; without the roles whose mask is empty.
    written_at
        Time-zone aware; the time of the job, so that a repeated job writes the same bytes.
    plane_sources
        The source frame of each slice of the masks.
    predecessors
        Earlier results of the series; the report names the SR documents among them as its predecessors.

    Raises
    ------
    SourceHeaderError
        A source lacks an attribute that every derived object needs.

    References
    ----------
    PS3.16 TID 1500, 1411 (with a segment), 1501 (without), 4019; IHE AI Results (AIR).
    """
    header = headers[0]
    check_source_header(header, lineage.series_instance_uid)
    sources = list(dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in plane_sources))
    groups: list[_Group] = []
    for role in ROLES:
        about = _about(role, findings, algorithms[role], lineage)
        number = segment_numbers.get(role)
        if segmentation is None or number is None:
            groups.append(_group_of_images(sources, about))
        else:
            groups.append(_group_of_segment(segmentation, number, str(header.SeriesInstanceUID), about))
    _add_comments(groups[-1], findings.comments)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(lineage)),
        procedure_reported=PROCEDURES.get(str(header.get("Modality") or ""), PROCEDURES["MR"]),
        imaging_measurements=groups,
        title=CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )
    ds = describe_result(
        header,
        written_at,
        modality="SR",
        series_number=series_number_after(header, REPORT_SERIES_NUMBER_OFFSET),
        pipeline_digest=lineage.pipeline_digest,
    )
    ds.InstanceNumber = lineage.stack_number
    ds.SOPClassUID = ComprehensiveSRStorage
    ds.SeriesInstanceUID = lineage.derive_for_series("sr-series")
    ds.SeriesDescription = SERIES_DESCRIPTION
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "FINAL"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(header, segmentation, sources)
    earlier_reports = [one for one in predecessors if one.sop_class_uid == ComprehensiveSRStorage]
    if earlier_reports:
        ds.PredecessorDocumentsSequence = _predecessors(str(header.StudyInstanceUID), earlier_reports)
        ds.SeriesDescription += REPLACES_EARLIER
    for element in content[0]:
        ds[element.tag] = element
    return encode_result(ds, partial(lineage.derive, "sr"))


def _about(role: Role, findings: Findings, algorithm: AlgorithmIdentity, lineage: Lineage) -> dict[str, Any]:
    """Return what the measurement group of a mask contains, with or without a segment."""
    is_area = role == "anonymized"
    return {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=lineage.tracking_uid(role), identifier=lineage.tracking_id(role)
        ),
        "finding_type": SEGMENT_TERMS[role].property_type,
        "finding_sites": [sr.FindingSite(anatomic_location=FACE)] if is_area else None,
        "algorithm_id": sr.AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=[f"weights_sha256={algorithm.sha256}", *(findings.verdict_parameters if is_area else ())],
            family=ARTIFICIAL_INTELLIGENCE,
        ),
        "measurements": _measurements(role, findings),
        "qualitative_evaluations": [sr.QualitativeEvaluation(name=FACE_VERDICT, value=VERDICTS[findings.verdict])]
        if is_area
        else None,
    }


def _group_of_segment(
    segmentation: WrittenObject, segment_number: int, source_series_instance_uid: str, about: Mapping[str, Any]
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the measurement group of a segment (TID 1411)."""
    segment = sr.ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=segmentation.sop_instance_uid,
        segment_number=segment_number,
        source_series=sr.SourceSeriesForSegmentation(UID(source_series_instance_uid)),
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **about)


def _group_of_images(
    sources: Iterable[tuple[str, str]], about: Mapping[str, Any]
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return the measurement group of an empty mask (TID 1501), because TID 1411 requires a region."""
    images = [sr.SourceImageForMeasurementGroup(sop_class_uid, uid) for sop_class_uid, uid in sources]
    return sr.MeasurementsAndQualitativeEvaluations(source_images=images, **about)


def _add_comments(group: _Group, comments: Iterable[str]) -> None:
    """Add sentences to a measurement group, whose templates are extensible, before the images: there may be many."""
    items = group[0].ContentSequence
    first_image = next(index for index, item in enumerate(items) if item.ValueType == "IMAGE")
    for index, comment in enumerate(comments, start=first_image):
        text = comment.encode("ascii", "replace").decode("ascii")
        items.insert(
            index, sr.TextContentItem(name=COMMENT, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        )


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
    series_instance_uid = str(header.SeriesInstanceUID)
    instances = [Reference(series_instance_uid, sop_class_uid, uid) for sop_class_uid, uid in sources]
    if segmentation is not None:
        seg = segmentation
        instances.append(Reference(seg.series_instance_uid, seg.sop_class_uid, seg.sop_instance_uid))
    return hierarchical_references(str(header.StudyInstanceUID), instances)


def _predecessors(study_instance_uid: str, predecessors: Sequence[Predecessor]) -> list[Dataset]:
    instances = [Reference(one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid) for one in predecessors]
    return hierarchical_references(study_instance_uid, instances)

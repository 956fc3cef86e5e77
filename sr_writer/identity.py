"""Copy patient, study and de-identification attributes of the source byte by byte.

A PACS files a result under the patient and study it names, so these values are copied unchanged, never corrected. That
also holds for a name or identifier that is not valid in its VR, such as an accession number of 20 characters: without
it the result would not be found with its images. Any other invalid value would make the object invalid for nothing; it
is replaced by an empty value, or left out if the attribute is optional. `invalid_identity` says what was done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag

from sr_writer.encoding import character_sets_of, encoded_element
from sr_writer.values import TEXT_VRS, is_valid_value

# Type 2: always present, empty if the source has no valid value.
REQUIRED_KEYWORDS: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    "PositionReferenceIndicator",
)

# Optional or conditional: present only if the source has a valid value.
OPTIONAL_KEYWORDS: Final = (
    # SOP Common
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "LongitudinalTemporalInformationModified"),
    # Patient
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "PatientBirthTime"),
    *("OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "QualityControlSubject", "EthnicGroup"),
    *("PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("PatientBreedDescription", "PatientBreedCodeSequence", "ResponsiblePerson", "ResponsiblePersonRole"),
    "ResponsibleOrganization",
    # De-identification of the source, copied without additions of our own
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "RecognizableVisualFeatures",
    # Clinical Trial Subject and Study
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
    # General Study
    *("StudyDescription", "IssuerOfAccessionNumberSequence", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "ProcedureCodeSequence"),
    # Patient Study
    *("AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts", "Allergies"),
    *("PregnancyStatus", "SmokingStatus", "Occupation", "AdditionalPatientHistory", "PatientState"),
    *("PatientSexNeutered", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID"),
    "ServiceEpisodeDescription",
)


# Names and identifiers by which archives file and find objects, and the character set by which they are read.
IDENTIFIERS: Final = frozenset(
    Tag(keyword)
    for keyword in (
        "SpecificCharacterSet",
        *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "OtherPatientNames"),
        *("StudyID", "AccessionNumber", "AdmissionID", "ServiceEpisodeID"),
        *("ClinicalTrialProtocolID", "ClinicalTrialSiteID", "ClinicalTrialSubjectID", "ClinicalTrialTimePointID"),
        *("LocalNamespaceEntityID", "UniversalEntityID"),
    )
)
_LONGEST_VALUE: Final = 0xFFFE  # bytes, with the two-byte length of explicit VR (PS3.5 7.1.2)


@dataclass(slots=True)
class CopiedIdentity:
    """Tags whose value is not valid in its VR: kept as received, or not written."""

    kept: list[BaseTag] = field(default_factory=list)
    emptied: list[BaseTag] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """An attribute whose value is not valid in its VR, without the value."""

    attribute: str
    vr: str
    is_kept: bool


def copy_identity(source: Dataset, target: Dataset) -> CopiedIdentity:
    """Copy the source's identity into ``target`` and return which of its values are not valid."""
    character_sets = character_sets_of(source)
    copied = CopiedIdentity()
    required = [Tag(keyword) for keyword in REQUIRED_KEYWORDS]
    _copy(source, target, [Tag(keyword) for keyword in OPTIONAL_KEYWORDS], character_sets, copied)
    _copy(source, target, required, character_sets, copied)
    if not character_sets:  # type 1C: present with a value, or not at all
        target.pop(Tag("SpecificCharacterSet"), None)
    for tag in required:
        if tag not in target:
            target[tag] = encoded_element(tag, dictionary_VR(tag), b"")
    return copied


def invalid_identity(source: Dataset) -> tuple[InvalidValue, ...]:
    """Return the attributes of the source's identity whose value is not valid in its VR, each once."""
    copied = copy_identity(source, Dataset())
    return tuple(
        InvalidValue(dictionary_description(tag), dictionary_VR(tag), is_kept)
        for tags, is_kept in ((copied.kept, True), (copied.emptied, False))
        for tag in dict.fromkeys(tags)
    )


def _copy(
    source: Dataset,
    target: Dataset,
    tags: Iterable[BaseTag],
    character_sets: tuple[str, ...],
    copied: CopiedIdentity,
) -> None:
    for tag in tags:
        if tag not in source:
            continue
        vr = dictionary_VR(tag)
        if vr == "SQ":
            _copy_sequence(source, target, tag, character_sets, copied)
        elif vr == "US":
            target[tag] = source[tag]
        else:
            value = _encoded_value(source, tag, character_sets)
            is_valid = is_valid_value(vr, value, character_sets)
            if is_valid or (tag in IDENTIFIERS and len(value) <= _LONGEST_VALUE):
                target[tag] = encoded_element(tag, vr, value)
            if not is_valid:
                (copied.kept if tag in target else copied.emptied).append(tag)


def _copy_sequence(
    source: Dataset, target: Dataset, tag: BaseTag, character_sets: tuple[str, ...], copied: CopiedIdentity
) -> None:
    items = []
    for source_item in source[tag].value or ():
        item = Dataset()
        standard = [tag for tag in sorted(source_item.keys()) if not tag.is_private and _is_copied(tag)]
        _copy(source_item, item, standard, character_sets_of(source_item) or character_sets, copied)
        items.append(item)
    target[tag] = DataElement(tag, "SQ", items)


def _is_copied(tag: BaseTag) -> bool:
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return False
    return vr in TEXT_VRS or vr in {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "SQ", "TM", "UI", "UR", "US"}


def _encoded_value(source: Dataset, tag: BaseTag, character_sets: tuple[str, ...]) -> bytes:
    """Return a value as received; an element that was decoded in the meantime is encoded again."""
    element = source.get_item(tag)
    if element is None or isinstance(element, RawDataElement):
        return (element and element.value) or b""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_data_element(buffer, element, list(character_sets) or None)
    return buffer.getvalue()[8:]  # after the tag (4 bytes) and the implicit VR length (4)

"""Write which instances of a study may leave for research, as a Key Object Selection Document (PS3.3 A.35.4).

It exists only for a study that may go. A study that may not has none: rejection titles of CID 7011 would make archives
hide or delete what they refer to, and not to be cleared is no fault of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
)

from sr_writer.codes import (
    DEVICE,
    DEVICE_OBSERVER_UID,
    FOR_RESEARCH_COLLECTION_EXPORT,
    KEY_OBJECT_DESCRIPTION,
    OBSERVER_TYPE,
)
from sr_writer.objects import WrittenObject
from sr_writer.references import Reference, hierarchical_references, referenced_sop_sequence
from sr_writer.result_header import check_source_header, describe_result, encode_result
from sr_writer.uids import derive_uid

SERIES_DESCRIPTION: Final = "For research export"
SERIES_NUMBER_OFFSET: Final = 9800  # sorts it after segmentations and reports
_DOCUMENTS: Final = frozenset({ComprehensiveSRStorage, Comprehensive3DSRStorage, EnhancedSRStorage})


def write_key_objects(
    header: Dataset,
    instances: Sequence[Reference],
    *,
    description: str,
    pipeline_digest: str,
    written_at: datetime,
) -> WrittenObject:
    """Write the selection of the instances of a study that may leave.

    Parameters
    ----------
    header
        A source instance of the study, without its pixels.
    instances
        At least one, in the order in which they are listed.
    description
        Why the study may leave, in ASCII.
    pipeline_digest
        Of the pipeline that cleared the study; another pipeline is another observer.
    written_at
        Time-zone aware.

    Returns
    -------
    WrittenObject
        The same bytes for the same arguments; its UIDs are derived from study and content.

    Raises
    ------
    SourceHeaderError
        The source lacks an attribute that every derived object needs.

    References
    ----------
    PS3.16 TID 2010, CID 7010.
    """
    check_source_header(header, str(header.get("SeriesInstanceUID") or ""))
    study_instance_uid = str(header.StudyInstanceUID)
    listed = sha256("\n".join(one.sop_instance_uid for one in instances).encode()).hexdigest()
    ds = describe_result(
        header, written_at, modality="KO", series_number=SERIES_NUMBER_OFFSET, pipeline_digest=pipeline_digest
    )
    ds.InstanceNumber = 1
    ds.SOPClassUID = KeyObjectSelectionDocumentStorage
    ds.SeriesInstanceUID = derive_uid("kos-series", study_instance_uid, listed)
    ds.SeriesDescription = SERIES_DESCRIPTION
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = hierarchical_references(study_instance_uid, instances)
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = [FOR_RESEARCH_COLLECTION_EXPORT]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    ds.ContentTemplateSequence = [template]
    ds.ContentSequence = [
        _code("HAS OBS CONTEXT", OBSERVER_TYPE, DEVICE),
        _observer_uid(derive_uid("observer", pipeline_digest)),
        _text(description),
        *(_item(one) for one in instances),
    ]
    return encode_result(ds, lambda digest: derive_uid("kos", study_instance_uid, digest))


def _content(relationship: str, value_type: str, name: CodedConcept | None = None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    if name is not None:
        item.ConceptNameCodeSequence = [name]
    return item


def _code(relationship: str, name: CodedConcept, value: CodedConcept) -> Dataset:
    item = _content(relationship, "CODE", name)
    item.ConceptCodeSequence = [value]
    return item


def _observer_uid(uid: UID) -> Dataset:
    item = _content("HAS OBS CONTEXT", "UIDREF", DEVICE_OBSERVER_UID)
    item.UID = uid
    return item


def _text(description: str) -> Dataset:
    item = _content("CONTAINS", "TEXT", KEY_OBJECT_DESCRIPTION)
    item.TextValue = description
    return item


def _item(instance: Reference) -> Dataset:
    """Return the content item of an instance; TID 2010 gives it no concept name."""
    item = _content("CONTAINS", "COMPOSITE" if instance.sop_class_uid in _DOCUMENTS else "IMAGE")
    item[Tag("ReferencedSOPSequence")] = referenced_sop_sequence([instance])
    return item

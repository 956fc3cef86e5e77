"""pynetdicom as the SCU of queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

STUDY_ROOT = StudyRootQueryRetrieveInformationModelFind
PATIENT_ROOT = PatientRootQueryRetrieveInformationModelFind


@contextmanager
def asking(
    port: int,
    *sop_classes: UID,
    calling: str = "BOTH",
    transfer_syntax: str = ImplicitVRLittleEndian,
    extensions: dict[str, bytes] | None = None,
) -> Iterator[Association]:
    """An association with these SOP classes, which the node accepts."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for sop_class in sop_classes or (STUDY_ROOT, PATIENT_ROOT):
        ae.add_requested_context(sop_class, transfer_syntax)
    items = []
    for uid, information in (extensions or {}).items():
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = UID(uid)
        item.service_class_application_information = information
        items.append(item)
    association = ae.associate("127.0.0.1", port, ae_title="NODE", ext_neg=items)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def identifier(level: str, **keys: object) -> Dataset:
    """An identifier by keyword, whatever the values."""
    ds = Dataset()
    for keyword, value in {"QueryRetrieveLevel": level, **keys}.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return ds


def find(association: Association, ds: Dataset, root: UID = STUDY_ROOT) -> tuple[Dataset, list[Dataset], set[int]]:
    """Last response, matches, and statuses of the pending responses."""
    answers = list(association.send_c_find(ds, root))
    matches = [match for _, match in answers[:-1] if match is not None]
    assert len(matches) == len(answers) - 1
    return answers[-1][0], matches, {answer.Status for answer, _ in answers[:-1]}


def uids(matches: Sequence[Dataset], keyword: str = "StudyInstanceUID") -> list[str]:
    return [str(match[keyword].value) for match in matches]

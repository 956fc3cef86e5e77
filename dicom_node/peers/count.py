"""Ask a peer how many instances of a series it has, by C-FIND (PS3.4 C.4.1) or QIDO-RS (PS3.18 10.6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.peers.association import Proposal, RequestedAssociation, associate
from dicom_node.peers.errors import ContextRefusedError, PeerTimeoutError, QueryFailedError, QueryUnreadableError
from dicom_node.peers.qido import query
from dicom_node.peers.status import PENDING, SUCCESS
from dicom_node.peers.web_client import WebClient
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.upper_layer.command_set import CommandField, Request
from part10.damage import PYDICOM_ERRORS
from part10.inflate import bounded_for_pydicom

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
TIMEOUT_S = 10.0  # for each part of an answer
ANSWER_S = 60.0  # for the whole answer: a peer that sends one match every few seconds would delay all other series
MAX_INSTANCES = 100_000  # of one series; more matches are an error
PAGE = 5_000  # matches per request, so that an answer stays within its limit
NO_NUMBER = "a Number of Series Related Instances that is not a number"
SERIES_INSTANCE_UID, SOP_INSTANCE_UID, SERIES_RELATED_INSTANCES = "0020000E", "00080018", "00201209"


def count_instances(
    peer: DimsePeer | DicomwebPeer,
    study_instance_uid: str,
    series_instance_uid: str,
    *,
    calling_ae_title: str,
    timeout_s: float = TIMEOUT_S,
) -> int | None:
    """Return Number of Series Related Instances according to the peer, or else the number of instances it lists.

    Returns
    -------
    int or None
        ``None`` when the peer does not know the series.

    Raises
    ------
    DeliveryError
        The peer does not answer, or its answer cannot be used; the class says whether asking again can help.
    """
    if isinstance(peer, DimsePeer):
        proposal = Proposal(STUDY_ROOT_FIND, ImplicitVRLittleEndian)
        with associate(peer, [proposal], calling_ae_title=calling_ae_title, timeout_s=timeout_s) as association:
            context_id = association.contexts.get(proposal)
            if context_id is None:
                raise ContextRefusedError(peer.name, *proposal)
            return _count_by_find(peer, association, context_id, study_instance_uid, series_instance_uid)
    with WebClient(peer, timeout_s=timeout_s) as client:
        return _count_by_qido(client, peer, study_instance_uid, series_instance_uid)


def _count_by_find(
    peer: DimsePeer, association: RequestedAssociation, context_id: int, study: str, series: str
) -> int | None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = study
    identifier.SeriesInstanceUID = series
    identifier.NumberOfSeriesRelatedInstances = None
    is_known, n_instances = False, None
    for match in _find(peer, association, context_id, 1, identifier):
        if str(match.get("SeriesInstanceUID") or series) != series:
            continue  # a peer that ignores the key returns everything
        is_known = True
        number = match.get("NumberOfSeriesRelatedInstances")
        if number is not None:
            try:
                n_instances = int(number)
            except (TypeError, ValueError) as error:
                raise QueryUnreadableError(peer.name, NO_NUMBER) from error
    if n_instances is not None or not is_known:
        return n_instances
    del identifier.NumberOfSeriesRelatedInstances
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.SOPInstanceUID = None
    matches = _find(peer, association, context_id, 2, identifier)
    return len({str(match.get("SOPInstanceUID") or "") for match in matches} - {""})


def _find(
    peer: DimsePeer, association: RequestedAssociation, context_id: int, message_id: int, identifier: Dataset
) -> Iterator[Dataset]:
    """Return every match; read all, because the association allows nothing else before the end."""
    request = Request(CommandField.C_FIND_RQ, message_id, STUDY_ROOT_FIND, "", has_data_set=True)
    n_matches, began = 0, time.monotonic()
    for response, data_set in association.perform_many(context_id, request, BytesIO(_encoded(identifier))):
        if response.status in PENDING:
            n_matches += 1
            if n_matches > MAX_INSTANCES:
                raise QueryUnreadableError(peer.name, f"more than {MAX_INSTANCES} matches")
            _check_pace(peer, began)
            if not response.has_data_set:
                raise QueryUnreadableError(peer.name, "a match without a data set")
            yield _decoded(peer, data_set)
        elif response.status != SUCCESS:
            raise QueryFailedError(peer.name, response.status, response.comment)


def _encoded(identifier: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = buffer.is_little_endian = True
    write_dataset(buffer, identifier)
    return bytes(buffer.getvalue())


def _decoded(peer: DimsePeer, encoded: bytes) -> Dataset:
    try:
        ds = dcmread(bounded_for_pydicom(BytesIO(encoded), max_inflated_bytes=len(encoded)), force=True)
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "NumberOfSeriesRelatedInstances"):
            ds.get(keyword)  # decodes it
    except PYDICOM_ERRORS as error:
        raise QueryUnreadableError(peer.name, f"a match that cannot be read ({type(error).__name__})") from error
    return ds


def _count_by_qido(client: WebClient, peer: DicomwebPeer, study: str, series: str) -> int | None:
    parameters = {"SeriesInstanceUID": series, "includefield": SERIES_RELATED_INSTANCES}
    matches = query(client, peer, f"studies/{study}/series", parameters)
    of_series = [match for match in matches if _value(match, SERIES_INSTANCE_UID) in (series, None)]
    if not of_series:
        return None
    number = _value(of_series[0], SERIES_RELATED_INSTANCES)
    if number is not None:
        try:
            return int(str(number))
        except ValueError as error:
            raise QueryUnreadableError(peer.name, NO_NUMBER) from error
    found: set[str] = set()
    began = time.monotonic()
    while len(found) <= MAX_INSTANCES:
        parameters = {"includefield": SOP_INSTANCE_UID, "limit": str(PAGE), "offset": str(len(found))}
        page = {
            str(_value(match, SOP_INSTANCE_UID)) for match in query(client, peer, _instances(study, series), parameters)
        }
        if page <= found:  # the end, or a server without paging
            return len(found)
        found |= page
        _check_pace(peer, began)
    raise QueryUnreadableError(peer.name, f"more than {MAX_INSTANCES} matches")


def _check_pace(peer: DimsePeer | DicomwebPeer, began: float) -> None:
    if time.monotonic() - began > ANSWER_S:
        raise PeerTimeoutError(peer.name, "end of its matches", ANSWER_S)


def _instances(study: str, series: str) -> str:
    return f"studies/{study}/series/{series}/instances"


def _value(match: dict[str, object], tag: str) -> object:
    """Return the first value of an attribute of a DICOM JSON object, or None."""
    member = match.get(tag)
    values = member.get("Value") if isinstance(member, dict) else None
    return values[0] if isinstance(values, list) and values else None

"""C-GET: dcmtk's getscu, and pynetdicom, which looks at numbers, failures and cancelling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.transcoding import explicit_little_endian
from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimsePeer, DimseSettings, QueryRetrieveSettings
from tests.arrivals import dataset_bytes, leave_results, receive
from tests.dimse.query.archive import AE_TITLE, Archive
from tests.dimse.query.asking import identifier
from tests.factories import EncodedInstance, compress, ct_series
from tests.new_store import NewStore
from tests.peer_servers import run_tool

STUDY_ROOT, PATIENT_ROOT = StudyRootQueryRetrieveInformationModelGet, PatientRootQueryRetrieveInformationModelGet
SUCCESS, SOME_FAILED, NONE_SENT, CANCELLED, REFUSED, TOO_MANY = 0x0000, 0xB000, 0xA702, 0xFE00, 0xA900, 0xA701


def encoded_as(transfer_syntax_uid: str) -> list[EncodedInstance]:
    """Two CT slices of one study in a transfer syntax, in a patient of their own."""
    series = ct_series(2, rows=16, columns=16, seed=transfer_syntax_uid)

    def edit(ds: Dataset, _: int) -> None:
        ds.PatientID = transfer_syntax_uid
        compress(ds, transfer_syntax_uid)

    return list(series.edited(edit))


STORED = {UID(uid).name: uid for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless)}


@pytest.fixture(scope="module")
def stored() -> dict[str, list[EncodedInstance]]:
    return {uid: encoded_as(uid) for uid in STORED.values()}


@pytest.fixture(scope="module")
def results() -> list[EncodedInstance]:
    return []


@pytest.fixture(scope="module")
def node(
    new_store: NewStore,
    tmp_path_factory: pytest.TempPathFactory,
    stored: dict[str, list[EncodedInstance]],
    results: list[EncodedInstance],
) -> Iterator[Archive]:
    """A node that holds CT in three transfer syntaxes, and results of its own."""
    peer = DimsePeer(name="getter", ae_title="GETTER", host="127.0.0.1", port=104, may_query=False)
    decompress = partial(explicit_little_endian, budget=DecodingBudget(2**26), is_first=False)
    policy = QueryRetrieve(AE_TITLE, QueryRetrieveSettings(max_instances=5), [peer], None, decompress)
    settings = DimseSettings(host="127.0.0.1", port=0)
    with (
        new_store(tmp_path_factory.mktemp("archive")) as store,
        DimseServer(store, settings, ae_title=AE_TITLE, query_retrieve=policy) as server,
    ):
        for instances in stored.values():
            receive(store, instances)
        results += leave_results(store)
        yield Archive(server, store)


def study_of(instances: Sequence[EncodedInstance]) -> str:
    return str(instances[0].dataset().StudyInstanceUID)


def get(
    node: Archive,
    ds: Dataset,
    *,
    accepts: Sequence[tuple[str, str]] = ((CTImageStorage, ExplicitVRLittleEndian),),
    root: UID = STUDY_ROOT,
    status: int = SUCCESS,
    cancel_after: int | None = None,
    with_roles: bool = True,
) -> tuple[list[tuple[Dataset, Dataset | None]], list[tuple[str, bytes]]]:
    """Responses of a C-GET, and transfer syntax and data set of what arrives.

    Parameters
    ----------
    accepts
        SOP classes and transfer syntaxes.
    status
        With which each C-STORE is answered.
    cancel_after
        Send a C-CANCEL after so many instances.
    """
    received: list[tuple[str, bytes]] = []

    def handle(event: evt.Event) -> int:
        received.append((event.context.transfer_syntax, event.request.DataSet.getvalue()))
        if cancel_after == len(received):
            event.assoc.send_c_cancel(1, query_model=root)
        return status

    ae = AE(ae_title="GETTER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    contexts = [build_context(root), *(build_context(*one) for one in accepts)]
    roles = [build_role(uid, scp_role=True) for uid in {uid for uid, _ in accepts}] if with_roles else []
    association = ae.associate(
        "127.0.0.1", node.port, contexts, ae_title="NODE", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, handle)]
    )
    assert association.is_established
    try:
        return list(association.send_c_get(ds, root, msg_id=1)), received
    finally:
        association.release()


def numbers(answer: Dataset) -> tuple[int | None, int, int, int]:
    """Remaining, completed, failed and warning sub-operations."""
    return (
        answer.get("NumberOfRemainingSuboperations"),
        answer.NumberOfCompletedSuboperations,
        answer.NumberOfFailedSuboperations,
        answer.NumberOfWarningSuboperations,
    )


@pytest.mark.peers
@pytest.mark.parametrize("name", STORED)
def test_getscu_gets_a_study(
    node: Archive, stored: dict[str, list[EncodedInstance]], tmp_path: Path, name: str
) -> None:
    """getscu proposes plain encodings only; what is compressed is decompressed for it."""
    instances = stored[STORED[name]]
    answer = run_tool(
        "getscu", "-v", "-S", "-aet", "GETTER", "-aec", "NODE", "-od", tmp_path, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study_of(instances)}", "127.0.0.1", node.port,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    found = {ds.SOPInstanceUID: ds for ds in map(dcmread, tmp_path.iterdir())}
    expected = [one.dataset() for one in instances]
    assert found.keys() == {ds.SOPInstanceUID for ds in expected}
    for ds in expected:
        assert (found[ds.SOPInstanceUID].pixel_array == ds.pixel_array).all()


@pytest.mark.peers
@pytest.mark.parametrize(("level", "n_expected"), [("PATIENT", 2), ("STUDY", 2), ("SERIES", 2), ("IMAGE", 1)])
def test_getscu_gets_every_level_of_the_patient_root(
    node: Archive, stored: dict[str, list[EncodedInstance]], tmp_path: Path, level: str, n_expected: int
) -> None:
    ds = stored[ExplicitVRLittleEndian][0].dataset()
    keys = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    levels = ["PATIENT", "STUDY", "SERIES", "IMAGE"]
    options = [f"QueryRetrieveLevel={level}"]
    options += [f"{keyword}={ds[keyword].value}" for keyword in keys[: levels.index(level) + 1]]
    answer = run_tool(
        "getscu", "-v", "-P", "-aet", "GETTER", "-aec", "NODE", "-od", tmp_path,
        *(part for option in options for part in ("-k", option)), "127.0.0.1", node.port,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert len(list(tmp_path.iterdir())) == n_expected


def test_instances_arrive_byte_for_byte_in_their_own_encoding(
    node: Archive, stored: dict[str, list[EncodedInstance]]
) -> None:
    accepts = [(CTImageStorage, uid) for uid in (ExplicitVRLittleEndian, RLELossless, ImplicitVRLittleEndian)]
    for uid, instances in stored.items():
        answers, received = get(node, identifier("STUDY", StudyInstanceUID=study_of(instances)), accepts=accepts)
        assert received == [(uid, dataset_bytes(one.part10)) for one in instances]
        assert [answer.Status for answer, _ in answers] == [0xFF00, 0xFF00, SUCCESS]
        assert [numbers(answer) for answer, _ in answers] == [(1, 1, 0, 0), (0, 2, 0, 0), (None, 2, 0, 0)]


def test_results_are_got_like_sources(node: Archive, results: list[EncodedInstance]) -> None:
    accepts = [(MRImageStorage, results[0].dataset().file_meta.TransferSyntaxUID)]
    _, received = get(node, identifier("STUDY", StudyInstanceUID=study_of(results)), accepts=accepts)
    assert [encoded for _, encoded in received] == [dataset_bytes(one.part10) for one in results]


def test_a_peer_that_only_takes_implicit_vr_gets_that(node: Archive, stored: dict[str, list[EncodedInstance]]) -> None:
    for instances in stored.values():
        ds = identifier("STUDY", StudyInstanceUID=study_of(instances))
        answers, received = get(node, ds, accepts=[(CTImageStorage, ImplicitVRLittleEndian)])
        assert answers[-1][0].Status == SUCCESS
        assert {uid for uid, _ in received} == {ImplicitVRLittleEndian}


@pytest.mark.parametrize("accepts", [[(CTImageStorage, JPEGLSLossless)], [(MRImageStorage, ExplicitVRLittleEndian)]])
def test_what_the_peer_does_not_accept_is_counted_and_named(
    node: Archive, stored: dict[str, list[EncodedInstance]], accepts: list[tuple[str, str]]
) -> None:
    instances = stored[ExplicitVRLittleEndian]
    answers, received = get(node, identifier("STUDY", StudyInstanceUID=study_of(instances)), accepts=accepts)
    last, failed = answers[-1]
    assert received == []
    assert (last.Status, numbers(last)) == (NONE_SENT, (None, 0, 2, 0))
    assert last.ErrorComment.startswith("2 not sent: context-refused")
    assert failed is not None
    assert list(failed.FailedSOPInstanceUIDList) == [one.dataset().SOPInstanceUID for one in instances]


def test_a_peer_without_the_role_of_an_scp_gets_nothing(
    node: Archive, stored: dict[str, list[EncodedInstance]]
) -> None:
    ds = identifier("STUDY", StudyInstanceUID=study_of(stored[ExplicitVRLittleEndian]))
    answers, received = get(node, ds, with_roles=False)
    assert (answers[-1][0].Status, received) == (NONE_SENT, [])


@pytest.mark.parametrize(
    ("status", "last_status", "expected"),
    [
        (0xA700, NONE_SENT, (None, 0, 2, 0)),
        (0x0110, NONE_SENT, (None, 0, 2, 0)),
        (0xB000, SOME_FAILED, (None, 0, 0, 2)),
    ],
)
def test_what_the_peer_answers_is_counted(
    node: Archive,
    stored: dict[str, list[EncodedInstance]],
    status: int,
    last_status: int,
    expected: tuple[int | None, int, int, int],
) -> None:
    ds = identifier("STUDY", StudyInstanceUID=study_of(stored[ExplicitVRLittleEndian]))
    answers, _ = get(node, ds, status=status)
    assert (answers[-1][0].Status, numbers(answers[-1][0])) == (last_status, expected)


def test_a_c_cancel_ends_it_between_two_instances(node: Archive, stored: dict[str, list[EncodedInstance]]) -> None:
    ds = identifier("STUDY", StudyInstanceUID=study_of(stored[ExplicitVRLittleEndian]))
    answers, received = get(node, ds, cancel_after=1)
    assert len(received) == 1
    assert (answers[-1][0].Status, numbers(answers[-1][0])) == (CANCELLED, (1, 1, 0, 0))


def test_nothing_found_is_a_success(node: Archive) -> None:
    answers, received = get(node, identifier("STUDY", StudyInstanceUID="1.2.3.4.5"))
    assert ([answer.Status for answer, _ in answers], received) == ([SUCCESS], [])


@pytest.mark.parametrize(
    ("root", "ds", "status", "named"),
    [
        (STUDY_ROOT, identifier("STUDY"), REFUSED, "StudyInstanceUID is missing"),
        (STUDY_ROOT, identifier("STUDY", StudyInstanceUID="1.2*"), REFUSED, "StudyInstanceUID: wildcards"),
        (STUDY_ROOT, identifier("SERIES", SeriesInstanceUID="1.2"), REFUSED, "StudyInstanceUID is missing"),
        (STUDY_ROOT, identifier("STUDY", StudyInstanceUID="1.2", Modality="CT"), REFUSED, "Modality: only unique"),
        (STUDY_ROOT, identifier("PATIENT", PatientID="P1"), REFUSED, "QueryRetrieveLevel: expected STUDY"),
        (PATIENT_ROOT, identifier("PATIENT", PatientID="*"), REFUSED, "PatientID: one value"),
        (PATIENT_ROOT, identifier("PATIENT", PatientID=""), REFUSED, "PatientID is missing"),
        (PATIENT_ROOT, identifier("STUDY", StudyInstanceUID="1.2"), REFUSED, "PatientID is missing"),
    ],
)
def test_an_identifier_that_cannot_be_used_is_refused(
    node: Archive, root: UID, ds: Dataset, status: int, named: str
) -> None:
    answers, received = get(node, ds, root=root)
    ((answer, _),) = answers
    assert (answer.Status, received) == (status, [])
    assert answer.ErrorComment.startswith(named)


def test_more_than_the_settings_allow_is_refused(node: Archive, stored: dict[str, list[EncodedInstance]]) -> None:
    uids = [study_of(instances) for instances in stored.values()]
    answers, received = get(node, identifier("STUDY", StudyInstanceUID=uids))
    assert (answers[-1][0].Status, received) == (TOO_MANY, [])
    assert answers[-1][0].ErrorComment == "more than 5 instances"

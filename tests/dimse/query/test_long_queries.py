"""Queries with thousands of matches: complete, cancelled, too long, and towards peers that misbehave meanwhile."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimsePeer, DimseSettings, QueryRetrieveSettings
from dicom_node.store import Store
from dicom_node.store.schema import series, studies
from tests.dimse.query.archive import AE_TITLE
from tests.dimse.query.asking import STUDY_ROOT, asking, find, identifier, uids
from tests.dimse.raw_peer import RawPeer, command, p_data
from tests.new_store import NewStore
from tests.store.sending import encode, instance, keep

N_STUDIES = 15_000
SUCCESS, OUT_OF_RESOURCES, CANCELLED = 0x0000, 0xA700, 0xFE00
FIND_RQ, CANCEL_RQ = 0x0020, 0x0FFF
ABORT = 7

StartServer = Callable[..., AbstractContextManager[DimseServer]]


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An index with copies of one study."""
    with new_store(tmp_path_factory.mktemp("many")) as store:
        keep(store, instance(study="1.0", series="1.0.1", StudyDescription="x" * 64))
        with store._database.write() as connection:
            for table in (studies, series):
                (row,) = connection.execute(sa.select(table)).mappings()
                made = [
                    {**row, **{name: f"1.{number}{row[name][3:]}" for name in row if name.endswith("_instance_uid")}}
                    for number in range(1, N_STUDIES)
                ]
                for one in made:
                    one["attributes"] = one["attributes"].replace('"1.0"', f'"{one["study_instance_uid"]}"')
                connection.execute(sa.insert(table), made)
        yield store


@pytest.fixture(scope="module")
def start(store: Store) -> StartServer:
    @contextmanager
    def start(*, idle_timeout_s: float = 60.0, **settings: int) -> Iterator[DimseServer]:
        peers = [DimsePeer(name="both", ae_title="BOTH", host="127.0.0.1", port=104)]
        policy = QueryRetrieve(AE_TITLE, QueryRetrieveSettings(**settings), peers, None)
        dimse = DimseSettings(host="127.0.0.1", port=0, idle_timeout_s=idle_timeout_s)
        with DimseServer(store, dimse, ae_title=AE_TITLE, query_retrieve=policy) as server:
            yield server

    return start


@pytest.fixture(scope="module")
def server(start: StartServer) -> Iterator[DimseServer]:
    with start() as server:
        yield server


ALL = identifier("STUDY", StudyInstanceUID="", PatientName="", PatientID="", StudyDate="", StudyDescription="")


def test_a_cancelled_query_ends_between_two_matches(server: DimseServer) -> None:
    statuses = []
    with asking(server.port, STUDY_ROOT) as association:
        for answer, _ in association.send_c_find(ALL, STUDY_ROOT, msg_id=5):
            statuses.append(answer.Status)
            if len(statuses) == 1:
                association.send_c_cancel(5, query_model=STUDY_ROOT)
        assert uids(find(association, identifier("STUDY", StudyInstanceUID="1.5"))[1]) == ["1.5"]
    assert statuses[-1] == CANCELLED
    assert len(statuses) < N_STUDIES


def test_more_matches_than_the_settings_allow_end_with_out_of_resources(start: StartServer) -> None:
    with start(max_matches=700) as server, asking(server.port, STUDY_ROOT) as association:
        last, matches, _ = find(association, ALL)
    assert (last.Status, last.ErrorComment) == (OUT_OF_RESOURCES, "more than 700 matches")
    assert len(set(uids(matches))) == 700


class QueryPeer(RawPeer):
    """A peer of BOTH that sends queries byte by byte as a test wants."""

    def associate_for_queries(self) -> None:
        ae = AE(ae_title="BOTH")
        ae.add_requested_context(STUDY_ROOT, ExplicitVRLittleEndian)
        sent: list[bytes] = []
        # The request as pynetdicom encodes it, taken from its own association.
        handlers = [(evt.EVT_PDU_SENT, lambda event: sent.append(event.pdu.encode()))]
        association = ae.associate("127.0.0.1", self.socket.getpeername()[1], ae_title="NODE", evt_handlers=handlers)
        association.release()
        self.send(sent[0])
        assert self.receive()[0] == 2

    def query(self, *more: tuple[int, int, bytes]) -> None:
        """Ask for everything, with more fragments in the same PDU."""
        find_rq = command(
            affected_sop_class_uid=STUDY_ROOT, command_field=FIND_RQ, message_id=1, priority=0, data_set_type=0
        )
        self.send(p_data((1, 3, find_rq), (1, 2, encode(ALL, ExplicitVRLittleEndian)), *more))

    def answers(self) -> tuple[int, int]:
        """Number of pending responses, and the status of the last response, read to its end."""
        n_pending = 0
        while True:
            number, body = self.receive()
            assert number == 4
            if not body[5] & 1:  # a data set
                continue
            at = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
            (status,) = struct.unpack_from("<H", body, at)
            if status & 0xFF00 != 0xFF00:
                return n_pending, status
            n_pending += 1


def cancel_rq(message_id: int) -> bytes:
    return command(command_field=CANCEL_RQ, message_id_being_responded_to=message_id, data_set_type=0x0101)


def test_a_cancel_in_the_same_pdu_as_the_query_is_heard(server: DimseServer) -> None:
    with QueryPeer(server.port) as peer:
        peer.associate_for_queries()
        peer.query((1, 3, cancel_rq(1)))
        assert peer.answers() == (0, CANCELLED)
        peer.query((1, 3, cancel_rq(9)))  # of another message
        assert peer.answers() == (N_STUDIES, SUCCESS)
        assert peer.release() == 6


OTHER_QUERY = command(affected_sop_class_uid=STUDY_ROOT, command_field=FIND_RQ, message_id=2, data_set_type=0)
STORE_RSP = command(command_field=0x8001, message_id_being_responded_to=1, data_set_type=0x0101, status=0)


@pytest.mark.parametrize(
    "nonsense",
    [
        struct.pack(">BBI", 5, 0, 4) + bytes(4),
        p_data((1, 3, OTHER_QUERY)),
        p_data((1, 0, b"data")),
        p_data((1, 3, STORE_RSP), (1, 3, STORE_RSP)),
    ],
    ids=["release", "another query", "data", "answers to nothing"],
)
def test_nonsense_while_a_query_runs_aborts_that_association(server: DimseServer, nonsense: bytes) -> None:
    with QueryPeer(server.port) as peer:
        peer.associate_for_queries()
        peer.query()
        peer.send(nonsense)
        while (number := peer.receive()[0]) == 4:
            pass
        assert number == ABORT
    wait_until(lambda: server.n_associations == 0)


def test_a_peer_that_stops_reading_loses_its_place(start: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    with start(idle_timeout_s=1.0) as server, QueryPeer(server.port) as peer:
        peer.associate_for_queries()
        peer.query()
        wait_until(lambda: server.n_associations == 0)
    assert "no acknowledgement of an answer within 1 s" in caplog.text


def test_a_stop_ends_a_running_query(start: StartServer) -> None:
    with start() as server, QueryPeer(server.port) as peer:
        peer.associate_for_queries()
        peer.query()
        assert peer.receive()[0] == 4
        began = time.monotonic()
        server.stop(grace_s=2.0)
        assert time.monotonic() - began < 30


def wait_until(is_so: Callable[[], bool]) -> None:
    end_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_at
        time.sleep(0.05)

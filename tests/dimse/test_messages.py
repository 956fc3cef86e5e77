"""Messages from fragments: any cut gives the same message, any nonsense ends the association."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.messages import MessageReader, Operation, Response
from dicom_node.dimse.status import Answer, Status
from dicom_node.upper_layer.command_set import MAX_COMMAND_SET_BYTES, CommandField, Request
from dicom_node.upper_layer.errors import ProtocolError
from dicom_node.upper_layer.pdu_stream import Pdv
from tests.dimse.raw_peer import command, echo_command, store_command

CONTEXTS = {
    1: AcceptedContext(1, "1.2.840.10008.1.1", ExplicitVRLittleEndian),
    3: AcceptedContext(3, CTImageStorage, ExplicitVRLittleEndian),
}


class Collector:
    """An operation that remembers what it was given."""

    def __init__(self) -> None:
        self.data_sets: list[bytes] = []
        self.n_discarded = 0
        self._current = b""

    def begin(self, _context: AcceptedContext, _request: Request) -> Operation:
        self._current = b""
        return self

    def write(self, fragment: memoryview) -> None:
        self._current += fragment

    def finish(self) -> Answer:
        self.data_sets.append(self._current)
        return Answer(Status.SUCCESS)

    def discard(self) -> None:
        self.n_discarded += 1


def reader_and_collector() -> tuple[MessageReader, Collector]:
    collector = Collector()
    return MessageReader(CONTEXTS, {CommandField.C_STORE_RQ: collector.begin}), collector


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in itertools.pairwise(edges)] or [b""]


def pdvs(context_id: int, kind: int, data: bytes, cuts: list[int]) -> list[Pdv]:
    parts = pieces(data, cuts)
    return [
        Pdv(context_id, kind | (2 if index == len(parts) - 1 else 0), memoryview(part))
        for index, part in enumerate(parts)
    ]


@settings(max_examples=100, deadline=None)
@given(
    data_sets=st.lists(st.binary(max_size=500), min_size=1, max_size=4),
    command_cuts=st.lists(st.integers(0, 200), max_size=10),
    data_cuts=st.lists(st.integers(0, 500), max_size=10),
)
def test_messages_come_whole_however_they_are_fragmented(
    data_sets: list[bytes], command_cuts: list[int], data_cuts: list[int]
) -> None:
    reader, collector = reader_and_collector()
    responses = []
    for number, data_set in enumerate(data_sets):
        for pdv in pdvs(3, 1, store_command(f"2.25.{number}", message_id=number), command_cuts):
            assert reader.feed(pdv) is None
        responses += [reader.feed(pdv) for pdv in pdvs(3, 0, data_set, data_cuts)]
        assert reader.message_bytes is None
    assert collector.data_sets == data_sets
    assert len([response for response in responses if response is not None]) == len(data_sets)


@settings(max_examples=200, deadline=None)
@given(
    fragments=st.lists(
        st.tuples(
            st.sampled_from([1, 3, 5, 255]),
            st.integers(0, 255),
            st.one_of(st.binary(max_size=60), st.sampled_from([store_command("2.25.1"), echo_command()])),
        ),
        max_size=12,
    )
)
def test_any_fragments_give_responses_or_a_protocol_error(fragments: list[tuple[int, int, bytes]]) -> None:
    reader, collector = reader_and_collector()
    try:
        for context_id, control, fragment in fragments:
            response = reader.feed(Pdv(context_id, control, memoryview(fragment)))
            assert response is None or isinstance(response, Response)
    except ProtocolError:
        reader.discard()
    assert collector.n_discarded <= 1


def test_an_unknown_operation_is_answered_and_the_association_goes_on() -> None:
    reader, collector = reader_and_collector()
    find = command(command_field=0x0020, message_id=9, data_set_type=0)
    assert reader.feed(Pdv(3, 3, memoryview(find))) is None
    response = reader.feed(Pdv(3, 2, memoryview(b"identifier")))
    assert response is not None
    assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x11\x02" in response.command_set  # (0000,0900) = 0x0211
    reader.feed(Pdv(3, 3, memoryview(store_command("2.25.1"))))
    assert reader.feed(Pdv(3, 2, memoryview(b"abc"))) is not None
    assert collector.data_sets == [b"abc"]


def test_a_cancel_of_something_that_has_ended_is_ignored() -> None:
    reader, _ = reader_and_collector()
    cancel = command(command_field=0x0FFF, message_id_being_responded_to=1, data_set_type=0x0101)
    assert reader.feed(Pdv(3, 3, memoryview(cancel))) is None
    assert reader.message_bytes is None


def test_what_was_begun_is_discarded_once() -> None:
    reader, collector = reader_and_collector()
    reader.feed(Pdv(3, 3, memoryview(store_command("2.25.1"))))
    reader.feed(Pdv(3, 0, memoryview(b"half")))
    reader.discard()
    reader.discard()
    assert (collector.n_discarded, collector.data_sets) == (1, [])


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([(5, 3, echo_command())], "context 5 was not accepted"),
        ([(3, 2, b"data")], "data set fragment where the other kind was due"),
        ([(3, 3, store_command("2.25.1")), (3, 3, echo_command())], "command set fragment"),
        ([(3, 3, store_command("2.25.1")), (1, 2, b"data")], "changes from presentation context 3 to 1"),
        ([(3, 3, command(command_field=0x8001, message_id_being_responded_to=1, data_set_type=0x0101))], "not asked"),
        ([(3, 1, bytes(MAX_COMMAND_SET_BYTES)), (3, 1, b"x")], "longer than 65536"),
    ],
)
def test_a_fragment_without_a_place_is_named(sent: list[tuple[int, int, bytes]], message: str) -> None:
    reader, _ = reader_and_collector()
    *before, last = [Pdv(context_id, control, memoryview(fragment)) for context_id, control, fragment in sent]
    for pdv in before:
        reader.feed(pdv)
    with pytest.raises(ProtocolError, match=message):
        reader.feed(last)

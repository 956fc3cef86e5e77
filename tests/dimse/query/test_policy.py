"""Who may query and retrieve, and what is written about it."""

from __future__ import annotations

import logging

import pytest

from dicom_node.dimse.contexts import negotiate_contexts
from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimsePeer, QueryRetrieveSettings
from dicom_node.upper_layer.command_set import CommandField
from dicom_node.upper_layer.presentation import ContextResult, ProposedContext
from tests.dimse.query.archive import PEERS, Archive
from tests.dimse.query.asking import STUDY_ROOT, asking, find, identifier

FIND, GET, MOVE = CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ


def policy(**settings: bool) -> QueryRetrieve:
    peers = [
        DimsePeer(
            name=title.lower(), ae_title=title, host="127.0.0.1", port=104, may_query=query, may_retrieve=retrieve
        )
        for title, (query, retrieve) in PEERS.items()
    ]
    return QueryRetrieve("NODE", QueryRetrieveSettings(**settings), peers, None)


def operations(policy: QueryRetrieve, calling: str) -> set[CommandField]:
    return {QUERY_MODELS[uid].operation for uid in policy.permitted(calling) or ()}


@pytest.mark.parametrize(
    ("calling", "known_only", "everyone"),
    [
        ("BOTH", {FIND, GET, MOVE}, {FIND, GET, MOVE}),
        ("FINDER", {FIND}, {FIND}),
        ("GETTER", {GET, MOVE}, {GET, MOVE}),
        ("NEITHER", set(), set()),
        ("STRANGER", set(), {FIND, GET, MOVE}),
    ],
)
def test_peers_may_what_the_settings_say_and_others_nothing(
    calling: str, known_only: set[CommandField], everyone: set[CommandField]
) -> None:
    assert operations(policy(), calling) == known_only
    assert operations(policy(known_peers_only=False), calling) == everyone
    assert policy(enabled=False).permitted(calling) is None


def test_only_peers_that_may_retrieve_are_destinations() -> None:
    found = {title: policy(known_peers_only=False).destination(title) for title in (*PEERS, "STRANGER")}
    assert {title for title, peer in found.items() if peer is not None} == {"BOTH", "GETTER"}


@pytest.mark.parametrize(
    ("permitted", "result"),
    [
        (None, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED),
        (frozenset(), ContextResult.USER_REJECTION),
        (frozenset({STUDY_ROOT}), ContextResult.ACCEPTED),
    ],
)
def test_what_is_not_permitted_is_rejected_in_negotiation(
    permitted: frozenset[str] | None, result: ContextResult
) -> None:
    (answer,) = negotiate_contexts(
        [ProposedContext(1, STUDY_ROOT, ("1.2.840.10008.1.2",))], accept_unknown=True, permitted=permitted
    )
    assert answer.result == result


def test_nothing_of_an_identifier_or_a_match_is_logged(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dicom_node")
    secret = {"PatientName": "Verysecret^Name*", "PatientID": "P1", "AccessionNumber": "Secretnumber"}
    with asking(archive.port, STUDY_ROOT) as association:
        find(association, identifier("STUDY", PatientID="P1", PatientName=""))
        find(association, identifier("STUDY", **secret))
        find(association, identifier("STUDY", PatientName="Verysecret" + "*" * 20))
        find(association, identifier("SERIES", PatientName="Verysecret"))
        find(association, identifier("VERYSECRET"))
    written = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "query answered" in written
    assert "query or retrieval refused" in written
    for word in ("secret", "SECRET", "Test^Person", "P1"):
        assert word not in written

"""Every service, asked by every kind of peer: who may not is refused, and who may is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.app import commitment_peers
from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimseSettings, QueryRetrieveSettings, Settings, SettingsError, load_settings
from dicom_node.store import Store
from tests.factories import ct_series
from tests.new_store import NewStore

FIND, GET, MOVE = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
SERVICES = ("echo", "store", "report", "find", "get", "move")
HERE, THERE = "127.0.0.0/8", "192.0.2.0/24"


def peer(ae_title: str, *services: str, addresses: tuple[str, ...] = ()) -> dict[str, object]:
    """A peer of the settings that may use some services."""
    return {
        "kind": "dimse",
        "name": ae_title.lower(),
        "ae_title": ae_title,
        "host": "127.0.0.1",
        "port": 9,
        "addresses": list(addresses),
        "may_store": "store" in services,
        "may_report": "report" in services,
        "may_query": "find" in services,
        "may_retrieve": "get" in services,
    }


PEERS = [
    peer("STORER", "store"),
    peer("REPORTER", "report"),
    peer("FINDER", "find"),
    peer("GETTER", "get"),
    peer("NOTHING"),
    peer("ALL", *SERVICES, addresses=(HERE, "::1")),
    peer("ELSEWHERE", *SERVICES, addresses=(THERE,)),
]
MAY = {
    "STORER": {"echo", "store"},
    "REPORTER": {"echo", "report"},
    "FINDER": {"echo", "find"},
    "GETTER": {"echo", "get", "move"},
    "NOTHING": {"echo"},
    "ALL": set(SERVICES),
    "ELSEWHERE": set(),
}


@pytest.fixture(scope="module", params=[False, True], ids=["strangers too", "known peers only"])
def node(
    request: pytest.FixtureRequest, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DimseServer, Store, bool]]:
    settings = Settings.model_validate({"peers": PEERS})
    known = [one for one in settings.peers if one.kind == "dimse"]
    chosen = DimseSettings(host="127.0.0.1", port=0, known_peers_only=request.param)
    with (
        new_store(tmp_path_factory.mktemp("node")) as store,
        DimseServer(
            store,
            chosen,
            ae_title="NODE",
            peers=known,
            commitment_peers=commitment_peers(settings),
            query_retrieve=QueryRetrieve("NODE", QueryRetrieveSettings(move_wait_s=0.5), known, None),
        ) as server,
    ):
        yield server, store, request.param


def used(server: DimseServer, ae_title: str) -> set[str]:
    """The services that a peer could use."""
    ae = AE(ae_title)
    for uid in (Verification, CTImageStorage, FIND, GET, MOVE, StorageCommitmentPushModel):
        ae.add_requested_context(uid)
    roles = [build_role(StorageCommitmentPushModel, scu_role=True, scp_role=True)]
    association = ae.associate("127.0.0.1", server.port, ae_title="NODE", ext_neg=roles)
    if not association.is_established:
        return set()
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    (instance,) = ct_series(n_slices=1, rows=16, seed=ae_title)
    found = {name for name, uid in (("find", FIND), ("get", GET), ("move", MOVE)) if uid in accepted}
    if association.send_c_echo().Status == 0:
        found.add("echo")
    if association.send_c_store(instance.dataset()).Status == 0:
        found.add("store")
    report = Dataset()
    report.TransactionUID, report.ReferencedSOPSequence = generate_uid(), []
    status, _ = association.send_n_event_report(
        report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    if "no peer that was asked" not in status.get("ErrorComment", ""):
        found.add("report")
    association.release()
    return found


@pytest.mark.parametrize("ae_title", MAY)
def test_each_peer_may_what_the_settings_say_and_nothing_else(
    node: tuple[DimseServer, Store, bool], ae_title: str
) -> None:
    server, store, _ = node
    assert used(server, ae_title) == MAY[ae_title]
    senders = {
        row.calling_ae_title
        for series in store.series.list()
        for row in store.series.instances(series.series_instance_uid)
    }
    assert (ae_title in senders) is ("store" in MAY[ae_title])


def test_a_stranger_stores_only_where_strangers_may(node: tuple[DimseServer, Store, bool]) -> None:
    server, _, known_only = node
    assert used(server, "STRANGER") == (set() if known_only else {"echo", "store"})


@pytest.mark.parametrize("address", ["192.0.2.300", "192.0.2.1/24", "pacs.example.org"])
def test_addresses_are_addresses(tmp_path: Path, address: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"peers: [{{name: a, ae_title: A, host: h, port: 1, kind: dimse, addresses: ['{address}']}}]")
    with pytest.raises(SettingsError, match=r"peers\.0\.addresses\.0: .*192\.0\.2\.10"):
        load_settings(path, {})

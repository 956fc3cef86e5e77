"""Every service, asked by every kind of peer: who may not is refused, and who may is served."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
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
from dicom_node.upper_layer.command_set import CommandField
from tests.certificates import Authority, Pair, self_signed
from tests.factories import ct_series
from tests.new_store import NewStore

FIND, GET, MOVE = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
SERVICES = ("echo", "store", "report", "find", "get", "move")
HERE, THERE = "127.0.0.0/8", "192.0.2.0/24"


def peer(ae_title: str, *services: str, **settings: object) -> dict[str, object]:
    """A peer of the settings that may use some services."""
    return {
        "kind": "dimse",
        "name": ae_title.lower(),
        "ae_title": ae_title,
        "host": "127.0.0.1",
        "port": 9,
        "may_store": "store" in services,
        "may_report": "report" in services,
        "may_query": "find" in services,
        "may_retrieve": "get" in services,
    } | settings


# AE title → the services that it may use, and what else the settings say of it.
PEERS = [
    peer("STORER", "store"),
    peer("REPORTER", "report"),
    peer("FINDER", "find"),
    peer("GETTER", "get"),
    peer("NOTHING"),
    peer("ALL", *SERVICES, addresses=(HERE, "::1")),
    peer("ELSEWHERE", *SERVICES, addresses=(THERE,)),
    peer("NAMED", *SERVICES, certificate_names=("Archive01.example.org",)),
]
# Words of the table in docs/security.md → AE title, and the certificate that is shown; None: on the port without TLS.
CALLS: dict[str, tuple[str, str | None]] = {
    "no peer's AE title": ("STRANGER", None),
    "no peer's AE title, with `known_peers_only`": ("STRANGER", None),
    "a peer with `may_store` only": ("STORER", None),
    "a peer with `may_report` only": ("REPORTER", None),
    "a peer with `may_query` only": ("FINDER", None),
    "a peer with `may_retrieve` only": ("GETTER", None),
    "a peer with none of the four": ("NOTHING", None),
    "a peer with all of them, from one of its `addresses`": ("ALL", None),
    "a peer from none of its `addresses`": ("ELSEWHERE", None),
    "a peer with `certificate_names`, without TLS": ("NAMED", None),
    "TLS: a peer without a certificate": ("ALL", ""),
    "TLS: a peer with an expired certificate": ("ALL", "expired"),
    "TLS: a peer with a certificate that is not valid yet": ("ALL", "future"),
    "TLS: a peer with a self-signed certificate": ("ALL", "self-signed"),
    "TLS: a peer with a certificate of another authority": ("ALL", "other"),
    "TLS: a peer with a certificate of the authority": ("ALL", "pacs"),
    "TLS: the same, from none of its `addresses`": ("ELSEWHERE", "pacs"),
    "TLS: a peer with one of its `certificate_names`": ("NAMED", "archive"),
    "TLS: a peer with the certificate of another machine": ("NAMED", "pacs"),
    "TLS: no peer's AE title, with a certificate of the authority": ("STRANGER", "pacs"),
}


def documented() -> dict[str, set[str]]:
    """The table of docs/security.md: who calls → the services that are open to them."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    head, *rows = re.findall(r"^\| (who calls .*|.* \| (?:yes|-) )\|$", text, re.MULTILINE)
    services = [word.strip() for word in head.split("|")[1:]]
    assert services == ["C-ECHO", "C-STORE", "report", "C-FIND", "C-GET", "C-MOVE"]
    found = {}
    for row in rows:
        who, *cells = (word.strip() for word in row.split("|"))
        found[who] = {name for name, cell in zip(SERVICES, cells, strict=True) if cell == "yes"}
    return found


def test_every_call_of_the_table_is_tried_and_every_service_is_in_it() -> None:
    assert list(documented()) == list(CALLS)
    tried = {"C_ECHO", "C_STORE", "N_EVENT_REPORT", "C_FIND", "C_GET", "C_MOVE"}
    no_service = {"C_CANCEL", "N_ACTION"}  # ends one's own query; the node sends it, and takes none
    assert {name.removesuffix("_RQ") for name in CommandField.__members__ if name.endswith("_RQ")} == tried | no_service


@dataclass(frozen=True)
class Node:
    """A started node, and the authority whose certificates it wants."""

    server: DimseServer
    store: Store
    contexts: dict[str, ssl.SSLContext]

    def calls(self, who: str) -> tuple[str, int, ssl.SSLContext | None]:
        """The AE title with which somebody calls, the port, and their side of TLS."""
        ae_title, certificate = CALLS[who]
        if certificate is None:
            return ae_title, self.server.port, None
        assert self.server.tls_port is not None
        return ae_title, self.server.tls_port, self.contexts[certificate]


def requestors(authority: Authority) -> dict[str, ssl.SSLContext]:
    """The calling sides of TLS, by the certificate that they show."""
    shown: dict[str, Pair | None] = {
        "": None,
        "expired": authority.expired(),
        "future": authority.issue("future", starts_in=timedelta(days=1)),
        "self-signed": self_signed(authority.folder),
        "other": Authority(authority.folder, "stranger").issue("other"),
        "pacs": authority.issue("pacs"),
        "archive": authority.issue("archive", host_names=("archive01.example.org",)),
    }
    contexts = {}
    for name, pair in shown.items():
        contexts[name] = ssl.create_default_context(cafile=str(authority.path))
        if pair is not None:
            contexts[name].load_cert_chain(pair.certificate, pair.key)
    return contexts


@pytest.fixture(scope="module", params=[False, True], ids=["strangers too", "known peers only"])
def node(
    request: pytest.FixtureRequest, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    authority = Authority(folder / "certificates")
    own = authority.issue("node")
    settings = Settings.model_validate({"peers": PEERS})
    known = [one for one in settings.peers if one.kind == "dimse"]
    tls = {"port": 0, "certificate_file": own.certificate, "key_file": own.key, "ca_file": authority.path}
    chosen = DimseSettings.model_validate(
        {"host": "127.0.0.1", "port": 0, "known_peers_only": request.param, "tls": tls}
    )
    with (
        new_store(folder) as store,
        DimseServer(
            store,
            chosen,
            ae_title="NODE",
            peers=known,
            commitment_peers=commitment_peers(settings),
            query_retrieve=QueryRetrieve("NODE", QueryRetrieveSettings(move_wait_s=0.5), known, None),
        ) as server,
    ):
        yield Node(server, store, requestors(authority))


def used(node: Node, who: str) -> set[str]:
    """The services that somebody could use."""
    ae_title, port, tls = node.calls(who)
    ae = AE(ae_title)
    for uid in (Verification, CTImageStorage, FIND, GET, MOVE, StorageCommitmentPushModel):
        ae.add_requested_context(uid)
    roles = [build_role(StorageCommitmentPushModel, scu_role=True, scp_role=True)]
    association = ae.associate(
        "127.0.0.1", port, ae_title="NODE", ext_neg=roles, tls_args=None if tls is None else (tls, "localhost")
    )
    if not association.is_established:
        return set()
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    (instance,) = ct_series(n_slices=1, rows=16, seed=f"{who}{node.server.port}")
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


@pytest.mark.parametrize("who", CALLS)
def test_a_service_is_open_to_whom_the_documentation_says_and_to_nobody_else(
    node: Node, request: pytest.FixtureRequest, who: str
) -> None:
    known_only = request.node.callspec.params["node"]
    if CALLS[who][0] == "STRANGER" and known_only != ("known_peers_only" in who):
        return  # the other node has this row
    n_before = stored(node.store)
    open_to_them = used(node, who)
    assert open_to_them == documented()[who]
    assert stored(node.store) - n_before == ("store" in open_to_them)


def stored(store: Store) -> int:
    return sum(len(store.series.instances(series.series_instance_uid)) for series in store.series.list())


@pytest.mark.parametrize("address", ["192.0.2.300", "192.0.2.1/24", "pacs.example.org"])
def test_addresses_are_addresses(tmp_path: Path, address: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"peers: [{{name: a, ae_title: A, host: h, port: 1, kind: dimse, addresses: ['{address}']}}]")
    with pytest.raises(SettingsError, match=r"peers\.0\.addresses\.0: .*192\.0\.2\.10"):
        load_settings(path, {})

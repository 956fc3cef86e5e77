"""A real Orthanc and the node call each other with TLS: what works, and what a wrong certificate keeps from working."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.peers import count_instances, deliver
from dicom_node.peers.errors import DeliveryError
from dicom_node.settings import DimsePeer, DimseSettings, PeerTlsSettings, QueryRetrieveSettings
from dicom_node.store import Store
from tests.arrivals import receive
from tests.certificates import Authority, Pair, self_signed
from tests.dimse.query.test_move import sending
from tests.dimse.test_tls import logged
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.peer_servers import OrthancServer, free_port, orthanc_tls_settings, start_orthanc
from tests.peers.objects import to_send

pytestmark = pytest.mark.peers


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def tls(authority: Authority) -> dict[str, object]:
    """Files of a node that wants certificates of the authority."""
    own = authority.issue("node")
    return {"certificate_file": own.certificate, "key_file": own.key, "ca_file": authority.path}


@pytest.fixture
def orthanc_node(
    new_store: NewStore, tls: dict[str, object], authority: Authority, tmp_path: Path
) -> Iterator[Orthancs]:
    """A node with query and retrieve over TLS, and how to make an Orthanc that calls it."""
    with new_store(tmp_path / "node") as store:
        yield Orthancs(store, tls, authority, tmp_path)


@dataclass(frozen=True)
class Orthancs:
    """A node's store and files, and real Orthancs that speak TLS with it."""

    store: Store
    tls: dict[str, object]
    authority: Authority
    folder: Path

    @contextmanager
    def start(self, own: Pair, trusted: Authority | None = None) -> Iterator[tuple[DimseServer, OrthancServer]]:
        """A node on its TLS port, and an Orthanc with a certificate; the node sends what Orthanc asks for by C-MOVE."""
        trusted = trusted or self.authority
        port = free_port()
        modality = {"AET": "NODE", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
        settings = orthanc_tls_settings(own, trusted) | {
            "DicomModalities": {"node": modality}, "DicomTlsRemoteCertificateRequired": True,
            "DicomAlwaysAllowFind": True, "DicomScuTimeout": 20,
        }  # fmt: skip
        with start_orthanc(self.folder, settings=settings) as orthanc:
            peer = self.peer(orthanc)
            policy = QueryRetrieve("NODE", QueryRetrieveSettings(move_wait_s=4.0), [peer], terms=None)
            listening = DimseSettings(host="127.0.0.1", port=0, plain=False, tls=self.tls | {"port": port})
            with (
                DimseServer(self.store, listening, ae_title="NODE", query_retrieve=policy) as server,
                sending(self.store, [peer]),
            ):
                yield server, orthanc

    def peer(self, orthanc: OrthancServer, own: Pair | None = None) -> DimsePeer:
        """Orthanc, as the node's settings have it."""
        own = own or Pair(Path(str(self.tls["certificate_file"])), Path(str(self.tls["key_file"])))
        files = PeerTlsSettings(ca_file=self.authority.path, certificate_file=own.certificate, key_file=own.key)
        return DimsePeer(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.port, tls=files)


def test_orthanc_stores_finds_and_moves_with_tls(orthanc_node: Orthancs) -> None:
    sent, kept = ct_series(n_slices=2, seed="sent"), ct_series(n_slices=3, seed="kept")
    receive(orthanc_node.store, kept)
    with (
        orthanc_node.start(orthanc_node.authority.issue("orthanc")) as (_, orthanc),
        httpx.Client(base_url=orthanc.url, trust_env=False, timeout=90.0) as http,
    ):
        ids = [http.post("/instances", content=each.part10).json()["ID"] for each in sent]
        assert http.post("/modalities/node/store", json=ids).status_code == 200
        assert len(orthanc_node.store.series.instances(sent.series_instance_uid)) == 2

        level = {"Level": "Study", "Query": {"StudyInstanceUID": kept.study_instance_uid}}
        query = http.post("/modalities/node/query", json=level).json()["ID"]
        assert len(http.get(f"/queries/{query}/answers").json()) == 1
        moved = http.post(f"/queries/{query}/retrieve", json={"TargetAet": "ORTHANC", "Synchronous": True})
        assert moved.status_code == 200, moved.text
        assert len(http.get("/instances").json()) == 5, "what Orthanc asked for came to it over TLS"

        # Orthanc is called: it answers the node's C-FIND, after it has got results.
        counted = count_instances(
            orthanc_node.peer(orthanc), kept.study_instance_uid, kept.series_instance_uid, calling_ae_title="NODE"
        )
        assert counted == 3


@pytest.mark.parametrize("kind", ["expired", "self-signed", "other-authority"])
def test_an_orthanc_with_a_certificate_that_nobody_should_trust_neither_gets_nor_brings_anything(
    orthanc_node: Orthancs, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    authority, kept = orthanc_node.authority, ct_series(n_slices=2, seed="kept")
    receive(orthanc_node.store, kept)
    own = {
        "expired": authority.expired,
        "self-signed": lambda: self_signed(authority.folder),
        "other-authority": lambda: Authority(authority.folder, "stranger").issue("other"),
    }[kind]()
    says = {"expired": "has expired", "self-signed": "is self-signed", "other-authority": "comes from an authority"}
    with (
        orthanc_node.start(own) as (_, orthanc),
        httpx.Client(base_url=orthanc.url, trust_env=False, timeout=90.0) as http,
    ):
        (ours,) = ct_series(n_slices=1, seed="sent")
        kept_id = http.post("/instances", content=ours.part10).json()["ID"]
        assert http.post("/modalities/node/echo").status_code != 200
        assert http.post("/modalities/node/store", json=[kept_id]).status_code != 200
        level = {"Level": "Study", "Query": {"StudyInstanceUID": kept.study_instance_uid}}
        assert http.post("/modalities/node/query", json=level).status_code != 200
        assert f"the peer's certificate {says[kind]}" in logged(caplog)

        peer = orthanc_node.peer(orthanc)
        (outcome, *_) = deliver(peer, to_send(kept), calling_ae_title="NODE")
        assert outcome.error is not None
        assert outcome.error.code == "tls-failed"
        assert f"the peer's certificate {says[kind]}" in str(outcome.error)
        with pytest.raises(DeliveryError, match=says[kind]):
            count_instances(peer, kept.study_instance_uid, kept.series_instance_uid, calling_ae_title="NODE")
        assert len(http.get("/instances").json()) == 1
    assert len(orthanc_node.store.series.list()) == 1, "only what was there before"


@pytest.mark.parametrize("kind", ["expired", "self-signed"])
def test_orthanc_does_not_take_anything_from_a_node_whose_certificate_it_does_not_trust(
    orthanc_node: Orthancs, kind: str
) -> None:
    authority = orthanc_node.authority
    with orthanc_node.start(authority.issue("orthanc")) as (_, orthanc):
        shown = authority.expired() if kind == "expired" else self_signed(authority.folder)
        (outcome, *_) = deliver(
            orthanc_node.peer(orthanc, shown), to_send(ct_series(n_slices=1)), calling_ae_title="NODE"
        )
        assert outcome.error is not None
        assert outcome.error.code == "tls-failed"
        assert httpx.get(f"{orthanc.url}/instances", trust_env=False).json() == []

"""``export`` to peers: all of a study without a warning, or not published; what arrived is sent once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.export.peer_target import PeerTarget, peer_target
from dicom_node.gate.judging import study_decision
from dicom_node.gate.withdrawals import withdraw_exports
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import DecisionKind, ExportState, Store
from tests.arrivals import receive
from tests.export.clearing import DIGEST, NAMES, NOW, RULES, TERMS, export, looked_at, outcomes, patient, say
from tests.factories import SyntheticSeries, ct_series
from tests.peer_servers import start_orthanc


class Archive:
    """A pynetdicom C-STORE SCP; ``answer`` gives the status for the n-th object, counted from 1."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.answer: Callable[[int], int] = lambda _: 0
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        with self._lock:
            self.received.append((str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()))
            return self.answer(len(self.received))

    @property
    def times(self) -> Counter[str]:
        return Counter(uid for uid, _ in self.received)


@contextmanager
def archive() -> Iterator[tuple[Archive, DimsePeer]]:
    found = Archive()
    ae = AE("ARCHIVE")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, found.store)])
    try:
        port = server.server_address[1]  # type: ignore[union-attr]
        yield found, DimsePeer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    finally:
        server.shutdown()  # type: ignore[union-attr]


def target(store: Store, peer: DimsePeer | DicomwebPeer) -> PeerTarget:
    made = peer_target(store, peer, calling_ae_title="NODE", timeout_s=10, now=lambda: NOW)
    return PeerTarget(made.store, made.peer_name, made.kind, made.deliver, made.now, wait=lambda _: None)


def test_a_cleared_study_reaches_a_dimse_peer_whole_and_once(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced")
    looked_at(store, "face_present", "b")
    with archive() as (found, peer):
        content = export(store, tmp_path / "work", target=target(store, peer))
        again = export(store, tmp_path / "work", target=target(store, peer))
    assert outcomes(content)[NAMES.mapped_uid(series.study_instance_uid)] == "exported"
    assert content["target"] == {"kind": "dimse", "name": "archive"}
    arrived = next(one for one in content["studies"] if one["outcome"] == "exported")
    assert (arrived["n_instances"], arrived["n_arrived"]) == (4, 4)
    assert sorted(found.times.values()) == [1, 1, 1, 1]
    assert again["instances"] == content["instances"]
    assert {str(dcmread(BytesIO(data), force=True).PatientName) for _, data in found.received} == {
        NAMES.patient("MRN-123456", "")
    }
    (row,) = store.exports.list()
    assert (row.state, row.target, row.n_instances) == (ExportState.PUBLISHED, "peer:archive", 4)
    assert not list((tmp_path / "work").rglob("*.dcm"))


@pytest.mark.parametrize("status", [0xB000, 0xA700, 0x0111, 0xC000])
def test_35_99_of_100_or_a_warning_is_not_published_and_the_same_command_sends_the_rest(
    status: int, store: Store, tmp_path: Path
) -> None:
    series = looked_at(store, "defaced")
    with archive() as (found, peer):
        bad: set[str] = set()

        def refuse_one(number: int) -> int:
            uid = found.received[-1][0]
            if number == 2:
                bad.add(uid)
            return status if uid in bad else 0

        found.answer = refuse_one
        content = export(store, tmp_path / "work", target=target(store, peer))
        (study,) = content["studies"]
        assert study["outcome"] == "not-accepted"
        assert (study["n_instances"], study["n_arrived"]) == (4, 3)
        assert "1 of 4 copies were not accepted" in study["reason"]
        assert content["counts"]["copied"] == 0
        assert [row.state for row in store.exports.list()] == [ExportState.SENDING]
        assert store.audit.list() == ()
        first = dict(found.received)
        found.answer = lambda _: 0
        content = export(store, tmp_path / "work", target=target(store, peer))
    assert outcomes(content) == {NAMES.mapped_uid(series.study_instance_uid): "exported"}
    assert all(found.times[uid] == 1 for uid in first if uid not in bad)
    assert all(data == first[uid] for uid, data in found.received)
    assert [row.action for row in store.audit.list()] == ["exported"]


def test_an_answer_that_was_lost_is_no_warning_when_the_peer_has_the_same_bytes(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    with archive() as (found, peer):
        found.answer = lambda _: 0xA700
        export(store, tmp_path / "work", target=target(store, peer))
        found.answer = lambda _: 0x0111
        content = export(store, tmp_path / "work", target=target(store, peer))
    assert list(outcomes(content).values()) == ["exported"]


def late_slice(store: Store, series: SyntheticSeries, seed: str = "late") -> None:
    (one,) = ct_series(n_slices=1, seed=seed, edit=patient)
    receive(store, [one.edited(lambda ds: setattr(ds, "StudyInstanceUID", series.study_instance_uid))], at=NOW)


def test_what_arrives_while_a_study_is_being_sent_withdraws_it_and_the_next_manifest_says_so(
    store: Store, tmp_path: Path
) -> None:
    series = looked_at(store, "defaced")
    with archive() as (found, peer):

        def answer(number: int) -> int:
            if number == 2:
                late_slice(store, series)
            return 0

        found.answer = answer
        content = export(store, tmp_path / "work", target=target(store, peer))
    (study,) = content["studies"]
    assert study["outcome"] == "withdrawn"
    assert study["n_arrived"] == 4
    assert [one["study"] for one in content["withdrawn"]] == [NAMES.mapped_uid(series.study_instance_uid)]
    assert [row.action for row in store.audit.list() if row.action != "decided"] == ["export-withdrawn"]


@pytest.mark.parametrize("change", ["late", "hold"])
def test_an_exported_study_that_may_no_longer_leave_is_withdrawn_and_nothing_is_claimed_to_be_recalled(
    change: str, store: Store, tmp_path: Path
) -> None:
    series = looked_at(store, "defaced")
    with archive() as (_, peer):
        export(store, tmp_path / "work", target=target(store, peer))
        if change == "late":
            late_slice(store, series)
            assert withdraw_exports(store, TERMS.digest, RULES, NOW) == ()  # open: not judged yet
            store.studies.decide(series.study_instance_uid, study_decision(RULES, DIGEST), NOW)
        else:
            say(store, series, DecisionKind.HOLD)
        content = export(store, tmp_path / "work", target=target(store, peer))
    (row,) = store.exports.list()
    assert row.state is ExportState.WITHDRAWN
    (told,) = content["withdrawn"]
    assert told["study"] == NAMES.mapped_uid(series.study_instance_uid)
    assert "recall" not in str(told)
    assert "Ann" not in str(content)


def test_a_study_of_which_a_part_may_have_left_is_withdrawn_too(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced")
    with archive() as (found, peer):
        found.answer = lambda number: 0 if number == 1 else 0xC000
        export(store, tmp_path / "work", target=target(store, peer))
    say(store, series, DecisionKind.HOLD)
    (row,) = withdraw_exports(store, TERMS.digest, RULES, NOW)
    assert row.copy_study_instance_uid == NAMES.mapped_uid(series.study_instance_uid)
    assert withdraw_exports(store, TERMS.digest, RULES, NOW) == ()


def test_nothing_is_sent_of_a_study_that_changes_while_it_is_de_identified(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.export import workers

    series = looked_at(store, "defaced")
    copy = workers.write_copy

    def slow(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(workers, "write_copy", copy)
        late_slice(store, series)
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", slow)
    with archive() as (found, peer):
        content = export(store, tmp_path / "work", target=target(store, peer))
    assert list(outcomes(content).values()) == ["changed-meanwhile"]
    assert found.received == []
    assert store.exports.list() == ()


@pytest.mark.peers
def test_a_cleared_study_reaches_orthanc_over_dicomweb_as_the_bytes_that_the_manifest_names(
    store: Store, tmp_path: Path
) -> None:
    looked_at(store, "defaced")
    with start_orthanc(tmp_path) as orthanc:
        peer = DicomwebPeer(name="archive", url=orthanc.dicomweb_url)
        content = export(store, tmp_path / "work", target=target(store, peer))
        assert list(outcomes(content).values()) == ["exported"]
        instances = httpx.get(f"{orthanc.url}/instances", timeout=60).json()
        assert len(instances) == 4
        uids = {
            httpx.get(f"{orthanc.url}/instances/{one}/simplified-tags", timeout=60).json()["SOPInstanceUID"]
            for one in instances
        }
    assert uids == {Path(one["path"]).stem for one in content["instances"]}

"""The index in a real PostgreSQL: one writer at a time, reads of one moment, outages that pass, and the whole node."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.store import Closing, DatabaseUrlError, IndexUnavailableError, Kept, Skip, Store
from tests.factories import ct_series
from tests.node_process import RunningNode, start_node, wait_for, write_settings
from tests.peer_servers import run_tool
from tests.postgresql_server import PostgresqlServer
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.peers, pytest.mark.slow]


def test_an_index_written_by_one_process_is_read_by_another(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store:
        assert keep(store, instance(1)) is Kept.STORED
        assert keep(store, instance(1)) is Kept.DUPLICATE
    with Store.open(tmp_path, url=url) as store:
        (row,) = store.series.instances(SERIES)
        assert store.objects.read_dataset_bytes(row.digest) == instance(1).encoded


def test_attributes_without_a_column_are_searched(url: str, tmp_path: Path) -> None:
    request = Dataset()
    request.ScheduledProcedureStepID = "SPS7"
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(Manufacturer="ACME", Rows=5, RequestAttributesSequence=Sequence([request])))
        for filters in (
            {"RequestAttributesSequence.ScheduledProcedureStepID": "SPS?"},
            {"Manufacturer": ("other", "AC*")},
        ):
            assert len(store.search.search_series(filters)) == 1
        assert not len(store.search.search_series({"Manufacturer": "other"}))
        assert len(store.search.search_instances({"StudyInstanceUID": "1.2.3", "Rows": "5"})) == 1
        assert len(store.search.search_studies({"PatientName": "parson test"}, is_fuzzy=True)) == 1


def test_patients_are_found_and_instances_moved(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store:
        received_series(store, n_instances=3)
        keep(store, instance(1, study="1.5", series="1.5.1", PatientID="P2", PatientName="Other^One", StudyDate=""))
        keep(store, instance(1, study="1.6", series="1.6.1", PatientID="", PatientName="Nobody"))
        keep(store, instance(1, study="1.7", series="1.7.1", PatientID="", PatientName="Somebody"))
        patients = list(store.search.search_patients({}))
        assert [one.get("00100020", {}).get("Value") for one in patients] == [None, None, ["P1"], ["P2"]]
        assert [one["00201204"]["Value"] for one in patients] == [[1], [1], [3], [1]]
        found = store.search.find_retrievable({"StudyInstanceUID": STUDY}, limit=10)
        assert [row.instance_number for row in found] == [1, 2, 3]
        move_id, n_queued = store.moves.queue(found.ids, peer="pacs", originator="ASKER", message_id=7, now=T0)
        assert (n_queued, store.moves.progress(move_id).n_open) == (3, 3)
        first, *_ = store.deliveries.claim_due("w", T0, 60)
        assert (first.move_originator, first.move_message_id) == ("ASKER", 7)
        store.deliveries.fail(first.id, "w", code="store-refused", message="no", retry_at=None, now=T0)
        assert store.moves.reasons(move_id) == {"store-refused": 1}
        assert store.moves.cancel(move_id, T0) == 0  # the others are on their way
        assert len(store.moves.undelivered(move_id, limit=10)) == 3
        assert store.moves.forget(T0 - timedelta(seconds=1)) == 0
        assert store.moves.forget(T0) == 1
        assert store.moves.progress(move_id).n_open == 2


def test_what_peers_say_of_deliveries_is_kept_and_retention_asks_it(url: str, tmp_path: Path) -> None:
    later = T0 + timedelta(hours=1)
    with Store.open(tmp_path, url=url) as store:
        row = received_series(store, n_instances=2)
        skipped = Closing("quiet", False, "d1", Skip("rule-scout: one"), forward_to=("pacs",))
        store.closing.complete(row, skipped, T0)
        for delivery in store.deliveries.claim_due("w", T0, 60):
            store.deliveries.succeed(delivery.id, "w", T0, is_to_be_counted=True)
        assert store.commitments.enroll("pacs", T0) == 2
        due = store.commitments.due("pacs", T0, limit=9)
        store.commitments.prepare("1.2.3", "pacs", due, now=T0, ask_again_at=later)
        store.commitments.note_answer("1.2.3", refusal=None, ask_again_at=later)
        bad, good = ((one.sop_class_uid, one.sop_instance_uid) for one in due)
        taken = store.commitments.take_report("1.2.3", ["pacs"], committed=[good], failed={bad: 0x0112}, now=T0)
        assert taken is not None
        assert (taken.n_committed, taken.n_failed) == (1, 1)
        assert store.commitments.give_up("pacs", later, max_requests=1) == 1
        assert store.commitments.forget_requests(later, later) == 1
        (check,) = store.delivery_checks.due("pacs", later)
        store.delivery_checks.note(check, n_sent=2, n_found=1, reason="", now=later, again_at=None)
        assert store.delivery_checks.counts() == {"pacs": {"short": 1}}
        store.peer_contexts.note("pacs", {bad: True}, T0)
        store.peer_contexts.note("pacs", {bad: False}, later)
        assert [one.is_accepted for one in store.peer_contexts.list()] == [False]
        (source,) = store.retention.survey(["pacs"])
        assert source.is_uncommitted
        assert not store.retention.delete_sources(source, later, committing_peers=["pacs"])
        assert len(store.deliveries.sendable_again(series_instance_uid=SERIES, peer="pacs")) == 2
        before = store.studies.evidence(source.study_instance_uid).fingerprint
        assert store.retention.delete_sources(source, later)
        assert store.studies.evidence(source.study_instance_uid).fingerprint == before


def test_claims_at_once_get_each_job_once(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as first, Store.open(tmp_path, url=url) as second:
        for number in range(30):
            row = received_series(first, n_instances=1, series=f"{SERIES}.{number}")
            first.closing.complete(row, closing(), T0)

        def claim_all(store: Store) -> list[int]:
            claimed = []
            while (job := store.jobs.claim("w", T0, 600, pipeline_digest="d1")) is not None:
                claimed.append(job.id)
            return claimed

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(claim_all, (first, second)))
        assert all(both)
        assert sorted(both[0] + both[1]) == sorted(job.id for job in first.jobs.list())


def test_many_instances_sent_at_once_are_all_there(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda number: keep(store, instance(number)), range(1, 101)))
        assert set(answers) == {Kept.STORED}
        assert store.series.get(SERIES).n_instances == 100


def test_a_read_sees_one_moment(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        with store._database.read() as connection:
            count = sa.text("SELECT count(*) FROM instances")
            assert connection.execute(count).scalar_one() == 1
            keep(store, instance(2))
            assert connection.execute(count).scalar_one() == 1


def test_an_outage_is_transient_passes_and_leaves_nothing_half(
    postgresql: PostgresqlServer, url: str, tmp_path: Path
) -> None:
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        with postgresql.stopped():
            pass
        keep(store, instance(2))  # what was open before is not used again
        asked: list[Callable[[], object]] = [
            lambda: keep(store, instance(3)),
            lambda: store.series.get(SERIES),
            lambda: store.jobs.claim("w", T0, 60, pipeline_digest="d1"),
        ]
        with ExitStack() as outage:

            def write_until_it_breaks() -> None:
                with store._database.write() as connection:
                    connection.execute(sa.text("UPDATE series SET n_instances = 0"))
                    outage.enter_context(postgresql.stopped())
                    connection.execute(sa.text("DELETE FROM instances"))

            for ask in (write_until_it_breaks, *asked):
                with pytest.raises(IndexUnavailableError, match="it is tried again"):
                    ask()
        assert store.series.get(SERIES).n_instances == 2
        assert keep(store, instance(3)) is Kept.STORED


def test_a_database_that_is_not_there_is_said(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    with pytest.raises(IndexUnavailableError, match='database "nowhere" does not exist'):
        Store.open(tmp_path, url=postgresql.url("nowhere"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of sockets that were broken
def test_a_server_that_says_nothing_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.store.postgresql.ANSWER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = PostgresqlServer(tmp_path, silent.getsockname()[1]).url("node")
        with pytest.raises(IndexUnavailableError, match=r"timed out|timeout expired"):
            Store.open(tmp_path / "node", url=url)
    gc.collect()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("mysql://node:secret@db/node", r"mysql://node:\*\*\*@db/node: is neither SQLite nor PostgreSQL"),
        ("postgresql+nodriver://node:secret@db/node", r"its driver cannot be loaded"),
        ("node:secret@db", "is no database URL"),
    ],
)
def test_a_url_that_leads_nowhere_says_so_without_its_password(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(DatabaseUrlError, match=said) as caught:
        Store.open(tmp_path, url=wrong)
    assert "secret" not in str(caught.value)


def test_the_configuration_is_checked_with_its_database(postgresql: PostgresqlServer, url: str, tmp_path: Path) -> None:
    def check(database_url: str) -> subprocess.CompletedProcess[str]:
        path = write_settings(tmp_path, {"node": {"database_url": database_url}}, port=11112, web_port=8080)
        command = [sys.executable, "-m", "dicom_node.cli", "check-config", "-c", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    assert check(url).returncode == 0
    wrong = check(postgresql.url("nowhere"))
    assert wrong.returncode != 0
    assert 'database "nowhere" does not exist' in wrong.stderr
    assert not (tmp_path / "data").exists()


def test_a_node_answers_senders_through_an_outage_and_keeps_its_results_over_a_restart(
    postgresql: PostgresqlServer, url: str, tmp_path: Path
) -> None:
    above = {"foreground": -300.0, "anonymized": 1e6}
    models = {role: str(write_tiny_model(tmp_path / role, role, above=value)) for role, value in above.items()}
    settings = {"node": {"database_url": url}, "models": models}
    series = ct_series(20, spacing_mm=(3.0, 2.0, 1.5), rows=32, columns=32, seed="postgresql")
    paths = series.write_to(tmp_path / "sent")

    def send(node: RunningNode) -> subprocess.CompletedProcess[str]:
        return run_tool("storescu", "-v", "-aec", node.ae_title, node.host, node.port, *paths, timeout_s=60)

    def results(store: Store) -> object:
        return list(store.search.search_series({"Modality": "SEG"}))

    def is_waiting(said: str) -> bool:
        """Whether the worker found no index, at its start or later: it may start before or after the web server."""
        return "no index yet" in said or "the worker tries again" in said

    with start_node(tmp_path / "node", settings) as node:
        with postgresql.stopped():
            refused = send(node)
            wait_for("a worker that waits", lambda: is_waiting(node.log.read_text()))
        assert refused.returncode != 0
        assert "Refused: OutOfResources" in refused.stdout
        assert send(node).returncode == 0
        with Store.open(node.data_dir, url=url) as store:
            (result,) = wait_for("the SEG", lambda: results(store))
        assert result["0020000D"]["Value"] == [series.study_instance_uid]
        with postgresql.stopped():
            wait_for("ticks that cannot look", lambda: "tick failed" in node.log.read_text())
            answer = httpx.get(f"{node.dicomweb_url}/studies", trust_env=False, timeout=30.0)
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert send(node).returncode == 0
        assert httpx.get(f"{node.dicomweb_url}/studies", trust_env=False, timeout=30.0).status_code == httpx.codes.OK
    with start_node(tmp_path / "node", settings) as node, Store.open(node.data_dir, url=url) as store:
        assert results(store) == [result]
        said = node.log.read_text()
    assert "process died" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "node" / "data" / "index.sqlite").exists()


def test_a_sender_is_told_to_come_back_while_another_writes(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store, Store.open(tmp_path, url=url) as other:
        keep(store, instance(1))
        with other._database.write():
            began = time.monotonic()
            with pytest.raises(IndexUnavailableError, match="lock timeout"):
                keep(store, instance(2))
            assert time.monotonic() - began < 20
        assert keep(store, instance(2)) is Kept.STORED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of sockets that were broken
def test_a_sender_is_told_to_come_back_when_the_server_falls_silent(
    postgresql: PostgresqlServer, url: str, tmp_path: Path
) -> None:
    with (
        frozen_on_request(postgresql.port) as (port, freeze),
        Store.open(tmp_path, url=url.replace(f":{postgresql.port}/", f":{port}/")) as store,
    ):
        keep(store, instance(1))
        freeze.set()
        began = time.monotonic()
        with pytest.raises(IndexUnavailableError):
            keep(store, instance(2))
        assert time.monotonic() - began < 20
    gc.collect()  # here, where the warning is expected


@contextmanager
def frozen_on_request(target: int) -> Iterator[tuple[int, threading.Event]]:
    """A port that leads to another one until the event is set; then connections stay open and nothing passes."""
    freeze, done = threading.Event(), threading.Event()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while (piece := source.recv(65536)) and not freeze.is_set():
                sink.sendall(piece)
            done.wait(30)

    def serve(listener: socket.socket, stack: ExitStack) -> None:
        with suppress(OSError):
            while True:
                near = stack.enter_context(listener.accept()[0])
                if freeze.is_set():
                    continue
                far = stack.enter_context(socket.create_connection(("127.0.0.1", target)))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, stack), daemon=True).start()
        yield listener.getsockname()[1], freeze
        done.set()
        listener.shutdown(socket.SHUT_RDWR)

"""Many senders, a node in many processes, ``kill -9`` every few seconds; afterwards nothing is lost, nothing double.

    python -m tests.torture.torture --database sqlite --kills 200
    python -m tests.torture.torture --database postgresql --kills 200

Eight associations send series, each instance until its answer is success. Of the node there are two receivers, two
schedulers, two workers and a web server over one store; one of them, chosen at random, is killed every few seconds and
started again, and so is PostgreSQL. Results go to dcmtk's ``storescp``. At the end nobody is killed any more, the node
finishes its work, and index, objects and archive are compared with what was sent and acknowledged.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread

from dicom_node import app
from dicom_node.settings import load_settings
from dicom_node.store import JobState, SeriesState, Store
from tests.arrivals import dataset_bytes
from tests.crash.parts import Part, fork_part
from tests.dimse.raw_peer import RawPeer
from tests.factories import ct_series
from tests.node_process import wait_for, write_settings
from tests.peer_servers import DimsePeerServer, free_port, start_storescp
from tests.postgresql_server import PostgresqlServer, start_postgresql
from tests.tiny_models import write_tiny_model

N_SENDERS = 8
BODY_ABOVE_HU = -300.0
SUCCESS = 0x0000
FINISH_S = 600.0


@dataclass
class Tally:
    """What was sent and what was done to the node, and what came of it."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)  # SOP Instance UID → dataset
    n_sent_again: int = 0  # because no success was seen
    kills: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)  # from a kill until that part works again
    silences_s: list[float] = field(default_factory=list)  # longest wait of each sender for a success
    n_series: int = 0
    n_connections: int = 0  # most that were open to PostgreSQL when somebody looked
    lost: list[str] = field(default_factory=list)
    doubled_results: list[str] = field(default_factory=list)
    doubled_deliveries: list[str] = field(default_factory=list)
    missing_deliveries: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_clean(self) -> bool:
        """Whether something was sent, something was killed, and nothing is wrong."""
        wrong = (self.lost, self.doubled_results, self.doubled_deliveries, self.missing_deliveries, self.unfinished)
        return bool(self.acknowledged) and bool(self.kills) and not any(wrong)

    def lines(self) -> Iterator[str]:
        """The figures."""
        n_instances = len(self.acknowledged)
        yield f"acknowledged: {n_instances} instances of {self.n_series} series; {self.n_sent_again} sent again"
        yield "killed: " + ", ".join(f"{name} {number}" for name, number in sorted(self.kills.items()))
        for name, found in (
            ("lost", self.lost),
            ("results doubled", self.doubled_results),
            ("deliveries doubled", self.doubled_deliveries),
            ("deliveries missing", self.missing_deliveries),
            ("series unfinished", self.unfinished),
        ):
            yield f"{name}: {len(found)}"
            yield from (f"  {each}" for each in found[:20])
        if self.n_connections:
            yield f"most connections to PostgreSQL: {self.n_connections}"
        if self.recovery_s:
            middle = sorted(self.recovery_s)[len(self.recovery_s) // 2]
            yield f"time to recover: median {middle:.1f} s, longest {max(self.recovery_s):.1f} s"
        if self.silences_s:
            yield f"longest time without a success for a sender: {max(self.silences_s):.1f} s"


class Node:
    """The processes of one node, of which each can be killed and started again."""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._n_logs = 0
        self.ports = (free_port(), free_port())
        web_port = free_port()
        self._paths = []
        for number, port in enumerate(self.ports):
            place = folder / f"settings-{number}"
            place.mkdir(parents=True)
            self._paths.append(write_settings(place, settings, port=port, web_port=web_port))
        names = ("receive", "receive", "schedule", "schedule", "work", "work", "web")
        self.parts = [(name, self._paths[index % 2]) for index, name in enumerate(names)]
        self._running: dict[int, Part] = {}

    def start(self) -> None:
        """Start all parts."""
        with self.store():
            pass  # migrated once, before several processes want to
        for index in range(len(self.parts)):
            self._start(index)
        for part in self._running.values():
            part.wait_until_ready()

    def kill(self, index: int) -> float:
        """Kill a part and start it again; return the seconds until it works."""
        began = time.monotonic()
        self._running.pop(index).kill()
        self._start(index)
        self._running[index].wait_until_ready()
        return time.monotonic() - began

    def stop(self) -> None:
        """Kill what runs."""
        for part in self._running.values():
            part.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store that all share."""
        with app.open_store(load_settings(self._paths[0], {})) as store:
            yield store

    def _start(self, index: int) -> None:
        name, path = self.parts[index]
        self._n_logs += 1
        self._running[index] = fork_part(name, path, self._folder / f"{self._n_logs}-{name}.log")


def send(number: int, node: Node, tally: Tally, over: threading.Event, *, n_slices: int, pause_s: float) -> None:
    """Send series after series, each instance until it is acknowledged; the last series is sent to its end."""
    rng, peer, longest, index = random.Random(number), None, 0.0, 0
    while not over.is_set():
        series = ct_series(n_slices=n_slices, rows=24, columns=20, seed=f"torture-{number}-{index}")
        index += 1
        with tally.lock:
            tally.n_series += 1
        for instance in series:
            time.sleep(pause_s)
            uid, data_set = str(instance.dataset().SOPInstanceUID), dataset_bytes(instance.part10)
            began, n_tries = time.monotonic(), 0
            while True:
                n_tries += 1
                try:
                    if peer is None:
                        peer = RawPeer(rng.choice(node.ports))
                        peer.associate()
                    if peer.store(uid, data_set) == SUCCESS:
                        break
                except (OSError, AssertionError, IndexError):  # the receiver was killed, or is not there yet
                    if peer is not None:
                        peer.socket.close()
                    peer = None
                    time.sleep(0.1)
            longest = max(longest, time.monotonic() - began)
            with tally.lock:
                tally.acknowledged[uid] = data_set
                tally.n_sent_again += n_tries - 1
    if peer is not None:
        peer.socket.close()
    with tally.lock:
        tally.silences_s.append(longest)


def torment(
    node: Node, server: PostgresqlServer | None, tally: Tally, *, n_kills: int, every_s: float, seed: int
) -> None:
    """Kill a part at random every so often and start it again, or restart the database."""
    rng = random.Random(seed)
    victims: Sequence[int | None] = [*range(len(node.parts)), *([None] if server is not None else [])]
    order: list[int | None] = []
    for _ in range(n_kills):
        time.sleep(rng.uniform(0.5, 1.5) * every_s)
        if not order:  # each once before one comes again, so that a short run meets all
            order = rng.sample(victims, len(victims))
        victim = order.pop()
        if server is not None:
            tally.n_connections = max(tally.n_connections, server.n_connections("node"))
        if victim is None and server is not None:
            began = time.monotonic()
            with server.stopped():
                tally.kills["postgresql"] += 1
                time.sleep(rng.uniform(0.0, 2.0))
            tally.recovery_s.append(time.monotonic() - began)
        elif victim is not None:
            tally.kills[node.parts[victim][0]] += 1
            tally.recovery_s.append(node.kill(victim))


def check(node: Node, archive: DimsePeerServer, tally: Tally) -> None:
    """Wait until the node has finished its work, then compare all that there is with all that there should be."""
    with node.store() as store:
        wait_for("the work to end", lambda: _is_at_rest(store, tally), timeout_s=FINISH_S, step_s=0.5)
        for uid, data_set in tally.acknowledged.items():
            rows = store.search.find_instances(sop_instance_uid=uid)
            if len(rows) != 1 or store.objects.read_dataset_bytes(rows[0].digest) != data_set:
                tally.lost.append(uid)
        jobs = store.jobs.list(limit=10**6)
        delivered = Counter(one.sop_instance_uid for one in store.deliveries.list(limit=10**6))
        ended = Counter((job.series_instance_uid, job.generation) for job in jobs if job.state is JobState.SUCCEEDED)
        tally.doubled_results += [f"series {uid}, generation {n}" for (uid, n), times in ended.items() if times > 1]
        in_archive = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in archive.folder.iterdir()}
        for job in jobs:
            if job.state not in (JobState.SUCCEEDED, JobState.SUPERSEDED):
                tally.unfinished.append(f"series {job.series_instance_uid}: job is {job.state.value}")
            results = store.jobs.results(job.id)
            kinds = Counter((result.kind, result.stack_number) for result in results)
            tally.doubled_results += [f"job {job.id}: {times} {what}" for what, times in kinds.items() if times > 1]
            for result in results:
                uid = result.sop_instance_uid
                if delivered[uid] > 1:
                    tally.doubled_deliveries.append(uid)
                if result.superseded_by_job_id is None and (delivered[uid] == 0 or uid not in in_archive):
                    tally.missing_deliveries.append(uid)
        with_job = {job.series_instance_uid for job in jobs if job.state is JobState.SUCCEEDED}
        received = [one for one in store.series.list() if one.state is not SeriesState.DELETED and one.n_instances]
        sources = {row.series_instance_uid for row in received} - _series_of_results(store, jobs)
        tally.unfinished += [f"series {uid}: no result" for uid in sources - with_job]


def _series_of_results(store: Store, jobs: Sequence[object]) -> set[str]:
    rows = (
        store.search.find_instances(sop_instance_uid=each.sop_instance_uid)
        for job in jobs
        for each in store.jobs.results(job.id)
    )  # type: ignore[attr-defined]
    return {row.series_instance_uid for found in rows for row in found}


def _is_at_rest(store: Store, tally: Tally) -> bool:
    """Whether every series is closed, and no job or delivery is open."""
    open_states = {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}
    n_closed = sum(n for state, n in store.series.counts().items() if state is not SeriesState.RECEIVING)
    return (
        n_closed >= tally.n_series
        and SeriesState.RECEIVING not in store.series.counts()
        and not open_states & set(store.jobs.counts())
        and not open_states & set(store.deliveries.counts())
    )


def torture(
    folder: Path,
    *,
    with_postgresql: bool,
    n_kills: int,
    every_s: float,
    n_slices: int,
    pause_s: float,
    seed: int = 1,
) -> Tally:
    """Do it all below ``folder``; every sender waits ``pause_s`` before each instance."""
    tally = Tally()
    models = {
        "foreground": str(write_tiny_model(folder / "fg", "foreground", above=BODY_ABOVE_HU)),
        "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
    }
    with ExitStack() as stack:
        server = stack.enter_context(start_postgresql(is_durable=True)) if with_postgresql else None
        archive = stack.enter_context(start_storescp(folder, ae_title="ARCHIVE"))
        where = {"data_dir": str(folder / "data")}
        settings: dict[str, object] = {
            "node": where if server is None else where | {"database_url": server.create("node")},
            "peers": [
                {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
            ],
            "deliver_to": ["archive"],
            "models": models,
            "series": {"quiet_s": 2.0},
            "work": {"device": "cpu", "threads": 1, "lease_s": 5.0, "backoff_s": 0.5, "max_attempts": 50},
            "delivery": {"backoff_s": 0.5, "max_backoff_s": 2.0},
            "log": {"format": "json"},
        }
        node = Node(folder, settings)
        stack.callback(node.stop)
        node.start()
        over = threading.Event()
        with ThreadPoolExecutor(N_SENDERS) as pool:
            senders = [
                pool.submit(send, number, node, tally, over, n_slices=n_slices, pause_s=pause_s)
                for number in range(N_SENDERS)
            ]
            try:
                torment(node, server, tally, n_kills=n_kills, every_s=every_s, seed=seed)
            finally:
                over.set()
            for sender in senders:
                sender.result()
        check(node, archive, tally)
    return tally


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kills", type=int, default=200, help="how often something is killed")
    parser.add_argument("--every", type=float, default=3.0, metavar="SECONDS", help="between two kills, on average")
    parser.add_argument("--slices", type=int, default=100, help="of a series")
    parser.add_argument("--pause", type=float, default=0.02, metavar="SECONDS", help="of a sender before an instance")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tally = torture(
            Path(place),
            with_postgresql=options.database == "postgresql",
            n_kills=options.kills,
            every_s=options.every,
            n_slices=options.slices,
            pause_s=options.pause,
            seed=options.seed,
        )
    sys.stdout.write("\n".join((f"index in {options.database}", *tally.lines(), "")))
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

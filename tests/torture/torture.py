"""Many senders, a node in many processes, trouble every few seconds; afterwards nothing is lost, nothing double.

    python -m tests.torture.torture --database sqlite --kills 200
    python -m tests.torture.torture --database postgresql --kills 200 --instances 100000

Eight associations send series, each instance until its answer is success. Of the node there are two receivers, two
schedulers, two workers and a web server over one store. Every few seconds one of these troubles comes, at random: a
process is killed with SIGKILL and started again, PostgreSQL is restarted, the archive (dcmtk's ``storescp``) is gone
for seconds, the disk is full for seconds (a tmpfs; as root only), the clock of everything is set back by ten more
minutes (libfaketime, where it is installed). At the end there is no more trouble, the node finishes its work, and
index, objects and archive are compared with what was sent and acknowledged.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peer_servers import start_storescp
from tests.postgresql_server import start_postgresql
from tests.tiny_models import write_tiny_model
from tests.torture.checking import check
from tests.torture.node import Node
from tests.torture.sending import send
from tests.torture.tally import Tally
from tests.torture.troubles import CLOCK_FILE, Troubles
from tests.wrong_clock import NO_BUSY_WAITING, mend_sleep

N_SENDERS = 8
BODY_ABOVE_HU = -300.0
EACH_IN_A_FILE = ("--promiscuous", "--fork", "+xa", "+B", "+uf")  # of storescp: what it gets twice, it keeps twice
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it.

    Attributes
    ----------
    n_times, n_instances
        It goes on until there were so many troubles and so many instances are acknowledged.
    every_s
        Between two troubles, on average.
    pause_s
        Of a sender before each instance.
    disk_mb
        Size of the file system for the data, which is filled now and then; 0 for none.
    """

    with_postgresql: bool
    n_times: int
    n_instances: int
    every_s: float
    n_slices: int
    pause_s: float
    disk_mb: int
    seed: int


def torture(folder: Path, plan: Plan) -> Tally:
    """Do it all below ``folder``."""
    tally = Tally()
    with ExitStack() as stack:
        server = stack.enter_context(start_postgresql(is_durable=True)) if plan.with_postgresql else None
        archive = stack.enter_context(start_storescp(folder, ae_title="ARCHIVE", options=EACH_IN_A_FILE))
        disk = stack.enter_context(_small_disk(folder / "disk", plan.disk_mb))
        where = {"data_dir": str((disk or folder) / "data")}
        node = Node(
            folder,
            _settings(folder, archive.port)
            | {"node": where if server is None else where | {"database_url": server.create("node")}},
        )
        stack.callback(node.stop)
        node.start()
        troubles = Troubles(node, archive, server, disk, random.Random(plan.seed))
        stack.callback(troubles.stop)
        _send_and_torment(node, troubles, tally, plan)
        with node.store() as store:
            check(store, archive.folder, tally)
    return tally


def _send_and_torment(node: Node, troubles: Troubles, tally: Tally, plan: Plan) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(N_SENDERS) as pool:
        senders = [
            pool.submit(send, number, node.addresses, tally, over, n_slices=plan.n_slices, pause_s=plan.pause_s)
            for number in range(N_SENDERS)
        ]
        try:
            troubles.torment(tally, n_times=plan.n_times, n_instances=plan.n_instances, every_s=plan.every_s)
        finally:
            over.set()
        for sender in senders:
            sender.result()


def _settings(folder: Path, archive_port: int) -> dict[str, object]:
    peer = {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive_port}
    return {
        "peers": [peer],
        "deliver_to": ["archive"],
        "models": {
            "foreground": str(write_tiny_model(folder / "fg", "foreground", above=BODY_ABOVE_HU)),
            "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
        },
        "series": {"quiet_s": 2.0},
        "work": {"device": "cpu", "threads": 1, "lease_s": 5.0, "backoff_s": 0.5, "max_attempts": 50},
        "delivery": {"backoff_s": 0.5, "max_backoff_s": 2.0, "max_attempts": 1000},
        "log": {"format": "json"},
    }


@contextmanager
def _small_disk(folder: Path, size_mb: int) -> Iterator[Path | None]:
    """A file system of its own, in memory; None where that is not wanted, or only root could."""
    if not size_mb or os.geteuid() != 0:
        yield None
        return
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _with_a_clock_that_can_be_set(arguments: Sequence[str], file: str) -> None:
    """Begin again as a process whose clock, and that of all that it starts, is wrong by what a file says."""
    if CLOCK_FILE in os.environ or not FAKETIME.exists():
        return
    Path(file).write_text("+0\n")
    Path(file).chmod(0o644)
    wrong = {"LD_PRELOAD": str(FAKETIME), CLOCK_FILE: file, "FAKETIME_CACHE_DURATION": "1"}
    own = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", **NO_BUSY_WAITING}
    os.execve(sys.executable, [sys.executable, "-m", "tests.torture.torture", *arguments], os.environ | wrong | own)


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kills", type=int, default=200, help="how many troubles at least")
    parser.add_argument("--instances", type=int, default=0, help="how many instances are to be acknowledged at least")
    parser.add_argument("--every", type=float, default=3.0, metavar="SECONDS", help="between two kills, on average")
    parser.add_argument("--slices", type=int, default=100, help="of a series")
    parser.add_argument("--pause", type=float, default=0.02, metavar="SECONDS", help="of a sender before an instance")
    parser.add_argument("--disk", type=int, default=0, metavar="MB", help="put the data on a small disk, and fill it")
    parser.add_argument("--set-clock", action="store_true", help="set the clock back, where libfaketime is installed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.set_clock:
        _with_a_clock_that_can_be_set(sys.argv[1:], f"{tempfile.gettempdir()}/torture-clock-{os.getpid()}")
    mend_sleep()
    with tempfile.TemporaryDirectory() as place:
        plan = Plan(
            with_postgresql=options.database == "postgresql",
            n_times=options.kills,
            n_instances=options.instances,
            every_s=options.every,
            n_slices=options.slices,
            pause_s=options.pause,
            disk_mb=options.disk,
            seed=options.seed,
        )
        tally = torture(Path(place), plan)
    if CLOCK_FILE in os.environ:
        Path(os.environ[CLOCK_FILE]).unlink()
    sys.stdout.write("\n".join((f"index in {options.database}", *tally.lines(), "")))
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

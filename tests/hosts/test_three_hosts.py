"""A node on three hosts loses links and hosts while series come in; when all is well, nothing is lost or double.

Host a receives, serves and schedules, b receives and works, c works and schedules; two more have PostgreSQL and a PACS.
The clock of c's scheduler is five minutes ahead, and packets of c are delayed and lost all the time.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hosts.fleet import HOSTS, Fleet, three_hosts
from tests.hosts.network import enter, network, why_no_namespaces
from tests.torture.checking import check
from tests.torture.sending import send
from tests.torture.tally import Tally

N_SENDERS = 4
CUT_S = 8.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """CI may have none: then these tests are skipped, and say so by name."""
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(f"three hosts were not tried: {reason}")


def trouble(fleet: Fleet, tally: Tally) -> None:
    """Cut the link of one host, kill another, cut off the database, kill the one with the wrong clock."""
    for host in ("b", "db"):
        time.sleep(2.0)
        fleet.network.cut(host)
        tally.kills[f"link of {host}"] += 1
        time.sleep(CUT_S)
        fleet.network.mend(host)
        victim = {"b": "a", "db": "c"}[host]
        time.sleep(2.0)
        fleet.kill(victim)
        tally.kills[f"host {victim}"] += 1
        time.sleep(2.0)
        began = time.monotonic()
        fleet.start(victim)
        fleet.wait_until_ready(victim)
        tally.recovery_s.append(time.monotonic() - began)


def test_a_cut_link_and_a_killed_host_lose_and_double_nothing(tmp_path: Path) -> None:
    tally, over = Tally(), threading.Event()
    with network(*HOSTS) as net, three_hosts(net, tmp_path) as fleet:
        how = net.impair("c")
        with ThreadPoolExecutor(N_SENDERS, initializer=enter, initargs=(net.namespace("pacs"),)) as pool:
            senders = [
                pool.submit(send, number, fleet.addresses, tally, over, n_slices=12, pause_s=0.4)
                for number in range(N_SENDERS)
            ]
            try:
                trouble(fleet, tally)
            finally:
                over.set()
            for sender in senders:
                sender.result()
        healed = time.monotonic()
        with fleet.store() as store:
            check(store, fleet.archive, tally)
    lines = "\n".join(
        (*tally.lines(), f"at rest {time.monotonic() - healed:.0f} s after the last trouble", f"c: {how}")
    )
    sys.stdout.write(f"{lines}\n")
    assert tally.is_clean, lines
    assert tally.kills == {"link of b": 1, "link of db": 1, "host a": 1, "host c": 1}
    assert set(tally.study_states) == {"review"}, lines

"""A node on three hosts loses links and hosts while series come in; when all is well, nothing is lost or double.

Host a receives, serves and schedules, b receives and works, c works and schedules; others have PostgreSQL, a PACS and,
where the objects lie in a bucket and not in a folder that a, b and c share, a server of objects.
The clock of c's scheduler is five minutes ahead, and packets of c are delayed and lost all the time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.store import Store
from dicom_node.store.integrity import N_FOLDERS, Pace
from dicom_node.store.integrity import Tally as ReadTally
from tests.hosts.fleet import HOSTS, Fleet, ObjectsIn, three_hosts
from tests.hosts.network import enter, network, why_no_namespaces
from tests.s3_servers import CREDENTIALS
from tests.torture.checking import check
from tests.torture.sending import send
from tests.torture.tally import Tally

N_SENDERS = 4
CUT_S = 8.0
TROUBLES = {
    ObjectsIn.FOLDER: (("b", "a"), ("db", "c")),
    ObjectsIn.BUCKET: (("b", "a"), ("db", "c"), ("objects", "b")),
}
"""Whose link is cut, and which host is killed after that one is back; a, c and b receive, schedule and work."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """CI may have none: then these tests are skipped, and say so by name."""
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(f"three hosts were not tried: {reason}")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server of objects, for what this process asks it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def trouble(fleet: Fleet, objects_in: ObjectsIn, tally: Tally) -> None:
    """Cut the link of one host and kill another, again and again; the last but one has the wrong clock."""
    for host, victim in TROUBLES[objects_in]:
        time.sleep(2.0)
        fleet.network.cut(host)
        tally.kills[f"link of {host}"] += 1
        time.sleep(CUT_S)
        fleet.network.mend(host)
        time.sleep(2.0)
        fleet.kill(victim)
        tally.kills[f"host {victim}"] += 1
        time.sleep(2.0)
        began = time.monotonic()
        fleet.start(victim)
        fleet.wait_until_ready(victim)
        tally.recovery_s.append(time.monotonic() - began)


@pytest.mark.parametrize("objects_in", list(ObjectsIn))
def test_cut_links_and_killed_hosts_lose_and_double_nothing(tmp_path: Path, objects_in: ObjectsIn) -> None:
    tally, over = Tally(), threading.Event()
    with network(*HOSTS) as net, three_hosts(net, tmp_path, objects_in) as fleet:
        how = net.impair("c")
        with ThreadPoolExecutor(N_SENDERS, initializer=enter, initargs=(net.namespace("pacs"),)) as pool:
            senders = [
                pool.submit(send, number, fleet.addresses, tally, over, n_slices=12, pause_s=0.4)
                for number in range(N_SENDERS)
            ]
            try:
                trouble(fleet, objects_in, tally)
            finally:
                over.set()
            for sender in senders:
                sender.result()
        healed = time.monotonic()
        with fleet.store() as store:
            check(store, fleet.archive, tally)
            at_rest_s = time.monotonic() - healed
            n_read = read_all(store)
        was_felt = fleet.has_logged("objects-unavailable")
    lines = "\n".join(
        (
            f"objects in a {objects_in}: {n_read} read again and sound",
            *tally.lines(),
            f"at rest {at_rest_s:.0f} s after the last trouble",
            f"c: {how}",
        )
    )
    sys.stdout.write(f"\n{lines}\n")
    assert tally.is_clean, lines
    assert tally.kills == Counter(
        name for host, victim in TROUBLES[objects_in] for name in (f"link of {host}", f"host {victim}")
    )
    assert set(tally.study_states) == {"review"}, lines
    assert was_felt is (objects_in is ObjectsIn.BUCKET)


def read_all(store: Store) -> int:
    """Compare the index and all objects, of sources and results; return how many were read."""
    read = ReadTally()
    for number in range(N_FOLDERS):
        findings = list(store.integrity.verify_folder(number, Pace(), read))
        assert findings == []
    return read.n_objects

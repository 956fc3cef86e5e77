"""All who share an index have one clock, that of its database, whatever the clocks of their machines say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.store import Store
from dicom_node.store.clock import StoreClock
from tests.new_store import NewPostgresqlStore
from tests.peer_servers import missing
from tests.postgresql_server import PostgresqlServer
from tests.store.sending import T0

ROOT = Path(__file__).resolve().parents[2]
TELL_THE_TIME = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dicom_node.store import Store
with Store.open(Path(sys.argv[1]), url=sys.argv[2]) as store:
    print(store.now().timestamp(), datetime.now(UTC).timestamp())
"""


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@pytest.mark.peers
@pytest.mark.parametrize("wrong_by", ["-7m", "+7m"])
def test_a_host_whose_clock_is_wrong_has_the_time_of_the_database(
    postgresql: PostgresqlServer, postgresql_template: str, tmp_path: Path, wrong_by: str
) -> None:
    faketime = shutil.which("faketime") or missing("faketime is not installed (Debian: apt-get install faketime)")
    maker = NewPostgresqlStore(postgresql, postgresql_template)
    maker(tmp_path).close()
    command = [faketime, "-f", wrong_by, sys.executable, "-c", TELL_THE_TIME, tmp_path, maker.url(tmp_path)]
    before = datetime.now(UTC).timestamp()
    told = subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    common, own = map(float, told.stdout.split())
    assert abs(own - common) > 400
    assert before - 1 < common < datetime.now(UTC).timestamp() + 1
    maker.drop()


def test_without_a_server_the_clock_is_that_of_the_machine(store: Store, database: str) -> None:
    assert abs((store.now() - datetime.now(UTC)).total_seconds()) < 1  # here both are on one machine
    assert (store.now._reading is None) is (database == "sqlite")


def test_between_two_answers_the_clock_goes_on_by_itself() -> None:
    monotonic_s = 100.0
    clock = StoreClock(wall=lambda: at(-999), monotonic=lambda: monotonic_s)
    assert clock() == at(-999)
    clock.note(at(0), asked_s=99.98, answered_s=100.02)
    monotonic_s = 130.0
    assert clock() == at(30)


def test_an_answer_that_took_long_sets_no_clock_exactly() -> None:
    clock = StoreClock(monotonic=lambda: 100.0)
    assert not clock.is_exact
    clock.note(at(0), asked_s=40.0, answered_s=100.0)  # the machine is overloaded: the clock is wrong by up to 30 s
    assert not clock.is_exact
    clock.note(at(25), asked_s=99.5, answered_s=100.5)
    assert (clock(), clock.is_exact) == (at(25), True)


def test_the_more_exact_answer_counts_until_the_servers_clock_is_set() -> None:
    monotonic_s = 100.0
    clock = StoreClock(monotonic=lambda: monotonic_s)
    clock.note(at(0), asked_s=99.999, answered_s=100.001)
    clock.note(at(0.4), asked_s=99.5, answered_s=100.5)  # half a second on the way: it says nothing new
    assert clock() == at(0)
    assert clock.is_exact
    clock.note(at(-0.002), asked_s=99.9995, answered_s=100.0005)
    assert clock() == at(-0.002)
    clock.note(at(-300), asked_s=99.5, answered_s=100.5)  # set back by five minutes
    assert clock() == at(-300)
    clock.note(at(-300), asked_s=99.0, answered_s=101.0)
    assert clock.is_exact
    monotonic_s = 10_000.0
    clock.note(at(9600.9), asked_s=9999.5, answered_s=10_000.5)  # after hours the old answer is no better
    assert clock() == at(9600.9)

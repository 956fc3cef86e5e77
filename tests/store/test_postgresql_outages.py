"""An outage of PostgreSQL, whatever it looks like and at whatever moment it begins, is one error, and passes."""

from __future__ import annotations

import gc
import pickle
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.store import IndexUnavailableError, Kept, Store
from tests.node_process import wait_for
from tests.postgresql_server import PostgresqlServer
from tests.store.breakable_line import Break, BreakableLine, breakable_line
from tests.store.sending import SERIES, T0, instance, keep

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of sockets that were broken
]

MOST_PIECES = 200  # of one request to the store
TIMEOUT_S = 0.3
OPERATIONS: dict[str, Callable[[Store], object]] = {
    "keep an instance": lambda store: keep(store, instance(2)),
    "read": lambda store: store.series.get(SERIES),
    "look and write": lambda store: store.jobs.claim("w", T0, 60, pipeline_digest="d1"),
}
# Of the moments of an operation, how far from one tried to the next: odd, as requests and answers alternate.
STEPS = {Break.CLOSED: 3, Break.RESET: 3, Break.SILENT: 7}


@pytest.fixture(scope="module")
def line(postgresql: PostgresqlServer) -> Iterator[BreakableLine]:
    with breakable_line(postgresql.port) as one:
        yield one


@pytest.fixture
def url(url: str, postgresql: PostgresqlServer, line: BreakableLine) -> str:
    """Of an empty database for each test, over the line."""
    return url.replace(f":{postgresql.port}/", f":{line.port}/")


@pytest.fixture(autouse=True)
def _connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read the system's certificates once, not for each connection; collect sockets where the warning is expected."""
    monkeypatch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
    yield
    gc.collect()


def broken_at_each_moment(line: BreakableLine, how: Break, operation: Callable[[], object]) -> Iterator[int]:
    """Break the line at a later and later piece of an operation, until the operation needs fewer pieces."""
    for piece_number in range(1, MOST_PIECES, STEPS[how]):
        line.break_at(piece_number, how)
        try:
            with suppress(IndexUnavailableError):
                operation()
            is_whole = not line.is_broken
        finally:
            line.mend()
        if is_whole:
            return
        yield piece_number
    raise AssertionError(f"more than {MOST_PIECES} pieces")


@pytest.mark.parametrize(("name", "is_first"), [*[(name, False) for name in OPERATIONS], ("read", True)])
@pytest.mark.parametrize("how", list(Break))
def test_it_is_transient_passes_and_leaves_nothing_half(
    line: BreakableLine,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Break,
    name: str,
    is_first: bool,
) -> None:
    if how is Break.SILENT:
        monkeypatch.setattr("dicom_node.store.postgresql.ANSWER_TIMEOUT_S", TIMEOUT_S)
        monkeypatch.setattr("dicom_node.store.postgresql.IMPATIENT_TIMEOUT_S", TIMEOUT_S)
    moments: list[int] = []
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))

        def ask() -> None:
            if is_first:
                store._database.dispose()
            OPERATIONS[name](store)

        for moment in broken_at_each_moment(line, how, ask):
            moments.append(moment)
            row = wait_for("the index", lambda: _series(store), timeout_s=60, step_s=0.01)
            assert row.n_instances == len(store.series.instances(SERIES))
        assert keep(store, instance(3)) is Kept.STORED
        assert [engine.pool.checkedout() for engine in (store._database._engine, store._database._impatient)] == [0, 0]
    assert len(moments) > 1


@pytest.mark.parametrize("name", ["keep an instance", "read"])
@pytest.mark.parametrize("how", [Break.CLOSED, Break.RESET])
def test_a_server_that_came_back_costs_no_request(
    line: BreakableLine, url: str, tmp_path: Path, how: Break, name: str
) -> None:
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        line.break_at(1, how, is_brief=True)
        OPERATIONS[name](store)


def _series(store: Store) -> object:
    with suppress(IndexUnavailableError):
        return store.series.get(SERIES)
    return None


def test_a_commit_that_is_broken_off_is_said_to_be_uncertain(line: BreakableLine, url: str, tmp_path: Path) -> None:
    def changed(store: Store, words: str, piece_number: int) -> IndexUnavailableError | None:
        """Change a row, break the line within the commit, and return what was raised."""
        try:
            with store._database.write() as connection:
                connection.execute(sa.text("UPDATE series SET series_description = :words"), {"words": words})
                line.break_at(piece_number, Break.CLOSED)
        except IndexUnavailableError as error:
            return error
        finally:
            line.mend()
        return None

    written = []
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        for piece_number in range(1, MOST_PIECES):
            words = f"changed {piece_number}"
            error = changed(store, words, piece_number)
            if error is None:
                break
            assert error.is_uncertain
            assert pickle.loads(pickle.dumps(error)).is_uncertain
            assert "all of it was written or nothing" in str(error)
            with store._database.read() as connection:
                found = connection.execute(sa.text("SELECT series_description FROM series")).scalar_one()
            written.append(found == words)
    assert written[0] is False  # the request was lost
    assert written[-1] is True  # the answer was


def test_what_fails_before_the_commit_has_written_nothing(line: BreakableLine, url: str, tmp_path: Path) -> None:
    def break_before_the_end(store: Store) -> None:
        with store._database.write() as connection:
            line.break_at(1, Break.CLOSED)
            connection.execute(sa.text("UPDATE series SET series_description = 'changed'"))

    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        with pytest.raises(IndexUnavailableError, match="nothing was written") as raised:
            break_before_the_end(store)
        line.mend()
        assert not raised.value.is_uncertain


def test_marks_of_an_uncertain_commit_are_left_to_the_next_start(
    line: BreakableLine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes may not be on disk, and nobody may take away the only sign of that."""

    def writers_of_marks(store: Store) -> set[str]:
        with store._database.read() as connection:
            return set(connection.execute(sa.text("SELECT writer FROM unproven")).scalars())

    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        (before,) = writers_of_marks(store)
        replace = store.inbox._unproven.replace

        def break_after(*arguments: Any) -> None:
            replace(*arguments)
            line.break_at(1, Break.CLOSED)

        monkeypatch.setattr(store.inbox._unproven, "replace", break_after)
        with pytest.raises(IndexUnavailableError, match="all of it was written or nothing"):
            keep(store, instance(2))
        monkeypatch.undo()
        line.mend()
        assert keep(store, instance(3)) is Kept.STORED
        assert len(writers_of_marks(store) - {before}) == 1
        assert before in writers_of_marks(store)

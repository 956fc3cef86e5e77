"""What the scheduler asks of all studies takes time in proportion to them, not to their square."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from dicom_node.store import Store
from tests.many_studies import fill

N_STUDIES = 4000
PEERS = ["pacs"]
# Each takes less than 0.3 s at rest; 10 s and more if SQLite looks at all rows of one state for each study.
LIMIT_S = 2.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("many") / "data"
    fill(folder, N_STUDIES, gate_digest="g" * 64, share_deleted=0.5)
    with Store.open(folder) as opened:
        yield opened


@pytest.mark.parametrize(
    ("ask", "n_expected"),
    [
        (lambda store: store.retention.survey(PEERS), N_STUDIES // 2),
        (lambda store: store.key_objects.unsettled(limit=N_STUDIES), N_STUDIES // 2 * 14 // 20),
        (lambda store: store.studies.due("g" * 64, limit=N_STUDIES), N_STUDIES // 20),
    ],
    ids=["retention", "key objects", "studies to be judged"],
)
def test_a_question_about_every_study_is_answered_in_time(
    store: Store, ask: Callable[[Store], tuple[object, ...]], n_expected: int
) -> None:
    began_s = time.process_time()
    found = ask(store)
    assert time.process_time() - began_s < LIMIT_S
    assert len(found) == pytest.approx(n_expected, abs=10)


def test_retention_knows_of_each_that_it_was_exported_and_committed(store: Store) -> None:
    survey = store.retention.survey(PEERS)
    assert {(one.is_exported, one.is_uncommitted, one.has_open_deliveries) for one in survey} == {(True, False, False)}

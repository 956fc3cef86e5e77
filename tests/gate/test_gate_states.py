"""The index selects studies by their state exactly as the gate says it of each one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dicom_node.gate.decisions import GateState, list_standpoints, standpoints
from dicom_node.gate.documents import Terms
from dicom_node.gate.rules import StudyRules
from dicom_node.store import DecisionKind, Store, StudyState
from dicom_node.store.schema import decisions, studies

START = datetime(2026, 1, 1, tzinfo=UTC)
PIPELINE = "p" * 64


def rows_of_studies(n_studies: int, digest: str) -> list[dict[str, object]]:
    """Studies in all states, judged by these rules, others or none."""
    texts = dict.fromkeys(
        (column.name for column in studies.c if isinstance(column.type, sa.Text) and not column.nullable), ""
    )
    kinds = itertools.cycle(itertools.product(StudyState, (digest, "other", None)))
    return [
        {
            **texts,
            "attributes": "{}",
            "study_instance_uid": f"1.2.{number}",
            "state": state.value,
            "reason": "a reason",
            "gate_digest": judged_by,
            "evidence_fingerprint": f"f{number}",
            "first_arrival_at": START,
            "last_arrival_at": START + timedelta(seconds=number),
        }
        for number, (state, judged_by) in zip(range(n_studies), kinds, strict=False)
    ]


def rows_of_decisions(n_studies: int) -> Iterator[dict[str, object]]:
    """No, one or two decisions on a study, for its present evidence or an earlier one, some at the same moment."""
    for number in range(n_studies):
        kinds = list(itertools.chain.from_iterable(itertools.product(DecisionKind, repeat=n) for n in range(3)))
        for rank, kind in enumerate([[], *([one] for one in DecisionKind), *map(list, kinds)][(number // 12) % 9]):
            yield {
                "study_instance_uid": f"1.2.{number}",
                "kind": kind.value,
                "reason": "why",
                "decided_by": "Ann",
                "evidence_fingerprint": f"f{number}" if (number // 108) % 2 else "earlier",
                "decided_at": START + timedelta(seconds=rank if (number // 216) % 2 else 0),
            }


@pytest.mark.parametrize("release_of_blocked", ["refused", "allowed"])
@pytest.mark.parametrize("pipeline", [PIPELINE, None])
def test_the_index_and_the_gate_agree(store: Store, release_of_blocked: str, pipeline: str | None) -> None:
    n_studies = 432  # every combination of the above
    terms = Terms(StudyRules.model_validate({"release_of_blocked": release_of_blocked}), pipeline)
    with store._database.write() as connection:
        connection.execute(sa.insert(studies), rows_of_studies(n_studies, Terms(terms.rules, PIPELINE).digest))
        connection.execute(sa.insert(decisions), list(rows_of_decisions(n_studies)))
    everything = standpoints(store, store.studies.list(limit=1000), terms.digest, terms.rules)
    seen = set()
    for state in GateState:
        expected = [one.study.study_instance_uid for one in everything if one.state is state]
        rows = store.studies.in_gate_state(state.value, terms.for_index, limit=1000)
        assert [row.study_instance_uid for row in rows] == expected
        seen |= set(expected)
        paged = [
            list_standpoints(store, terms.digest, terms.rules, state=state, limit=50, offset=offset)
            for offset in range(0, n_studies, 50)
        ]
        assert [one.study.study_instance_uid for page in paged for one in page] == expected
    assert len(seen) == n_studies
    assert all(one.state in (GateState.OPEN, GateState.HELD) for one in everything) == (pipeline is None)


def test_a_rare_state_is_found_among_many_studies(store: Store) -> None:
    n_studies = 20_000
    terms = Terms(StudyRules(), PIPELINE)
    rows = rows_of_studies(n_studies, terms.digest)
    for number, row in enumerate(rows):
        row |= {"state": "review" if number < 5 else "cleared", "gate_digest": terms.digest}
    with store._database.write() as connection:
        connection.execute(sa.insert(studies), rows)
        connection.execute(sa.insert(decisions), list(rows_of_decisions(1000)))
    began_s = time.process_time()
    found = list_standpoints(store, terms.digest, terms.rules, state=GateState.REVIEW)
    assert len(found) <= 5
    assert time.process_time() - began_s < 1.0  # 0.1 s at rest; it was 2 s when pages of all studies were looked at

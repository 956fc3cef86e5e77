"""Announcements and notices in a real PostgreSQL, told by two nodes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.gate.rules import StudyRules
from dicom_node.gate.standing import study_standing
from dicom_node.store import JobState, Store
from tests.store.sending import T0, instance, keep

pytestmark = [pytest.mark.peers, pytest.mark.slow]

N_STUDIES = 30
DESCRIBE = study_standing(StudyRules(), "d" * 64)


def test_each_notice_is_told_once_by_two_at_once(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as first, Store.open(tmp_path, url=url) as second:
        for number in range(N_STUDIES):
            keep(first, instance(1, study=f"1.2.{number}", series=f"1.2.{number}.1"))
        assert first.announcements.announce(DESCRIBE, ["a"], T0) == N_STUDIES
        assert first.notices.add_target("b") == N_STUDIES

        def tell_all(store: Store) -> list[int]:
            told = []
            for target in ("a", "b"):
                while (
                    claimed := store.notices.claim_due(
                        target, f"w{id(store)}", T0, 600, describe=DESCRIBE, targets=["a", "b"]
                    )
                ) is not None:
                    store.notices.succeed(claimed[0], claimed[1].state, T0)
                    told.append(claimed[0].id)
            return told

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(tell_all, (first, second)))
        assert sorted(both[0] + both[1]) == sorted(row.id for row in first.notices.list())
        assert first.notices.counts() == {JobState.SUCCEEDED: 2 * N_STUDIES}


def test_marks_waits_and_history_are_kept(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url=url) as store:
        keep(store, instance(1))
        store.announcements.announce(DESCRIBE, ["a"], T0)
        claimed = store.notices.claim_due("a", "w", T0, 600, describe=DESCRIBE, targets=["a"])
        assert claimed is not None
        retry_at = T0 + timedelta(days=9)
        assert store.notices.fail(claimed[0], code="c", message="m", retry_at=retry_at) is JobState.WAITING
        assert store.times.bound(T0, lease_s=60, longest_wait_s=60) == 1
        assert store.notices.retry_all("a") == 1
        assert store.announcements.mark_outdated("e" * 64) == 1
        assert store.announcements.announce(study_standing(StudyRules(), None), ["a"], T0) == 0
        assert [row.state for row in store.announcements.of("1.2.3")] == ["open"]

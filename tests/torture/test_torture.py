"""The short form of ``make torture``: on SQLite, and on PostgreSQL with the database restarted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.torture import torture

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]

N_KILLS = {"sqlite": 7, "postgresql": 8}  # each part once, and the database


@pytest.mark.parametrize("database", N_KILLS)
def test_nothing_is_lost_or_doubled_while_parts_are_killed(tmp_path: Path, database: str) -> None:
    with_postgresql = database == "postgresql"
    tally = torture(
        tmp_path, with_postgresql=with_postgresql, n_kills=N_KILLS[database], every_s=1.0, n_slices=10, pause_s=0.4
    )
    assert tally.is_clean, "\n".join(tally.lines())
    assert sum(tally.kills.values()) == N_KILLS[database]
    assert ("postgresql" in tally.kills) is with_postgresql

"""The short form of ``make torture``: on SQLite, and on PostgreSQL with the database restarted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
N_TIMES = {"sqlite": 10, "postgresql": 11}  # each part once, peer, disk and clock, and the database


@pytest.mark.parametrize("database", N_TIMES)
def test_nothing_is_lost_or_doubled_whatever_goes_wrong(database: str) -> None:
    options = {"--kills": N_TIMES[database], "--every": 1.0, "--slices": 10, "--pause": 0.4, "--disk": 64}
    command = [sys.executable, "-m", "tests.torture.torture", "--database", database, "--set-clock"]
    command += [str(each) for pair in options.items() for each in pair]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=800)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
    (troubles,) = re.findall("^troubles: (.*)$", ended.stdout, re.MULTILINE)
    met = {each.rpartition(" ")[0] for each in troubles.split(", ")}
    assert met >= {"receive", "web", "schedule", "work", "peer gone"}
    assert ("postgresql" in met) is (database == "postgresql")

"""A node that is killed while it asks for storage commitment asks again, and believes no more than it was told."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.store import CommitmentState, Store
from tests.commitment_scp import Behaviour, report_of, start_commitment_scp
from tests.peers.test_commitment import HOUR, LATER, ask, deliver_results, peer_at, states

# Where the process dies: before and after the request is recorded, after it is answered, after the report is recorded.
STEPS = ("before-prepare", "after-prepare", "after-answer", "after-report")
ASK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from dicom_node.store import Store
from dicom_node.store.work.commitments import Commitments
from tests.peers.test_commitment import ask, peer_at

step, data_dir, port = sys.argv[1:]
def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)
def after(method):
    def call(*args, **options):
        method(*args, **options)
        die()
    return call
if step == "before-prepare":
    Commitments.prepare = die
elif step == "after-prepare":
    Commitments.prepare = after(Commitments.prepare)
elif step == "after-answer":
    Commitments.note_answer = die
else:
    Commitments.take_report = after(Commitments.take_report)
with Store.open(Path(data_dir)) as store:
    ask(store, peer_at(int(port)))
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_node_asks_again_for_what_is_not_confirmed(tmp_path: Path, step: str) -> None:
    with start_commitment_scp(Behaviour.AFTER if step == "after-report" else Behaviour.SILENT) as archive:
        peer = peer_at(archive.port)
        with Store.open(tmp_path) as store:
            deliver_results(store, peer)
        killed = subprocess.run(
            [sys.executable, "-c", ASK_AND_DIE, step, str(tmp_path), str(archive.port)], check=False, timeout=120
        )
        assert killed.returncode == -signal.SIGKILL
        was_sent = step in ("after-answer", "after-report")
        assert len(archive.requests) == was_sent
        archive.behaviour = Behaviour.AFTER
        with Store.open(tmp_path) as store:
            known = set(states(store).values())
            if step == "after-report":
                assert known == {CommitmentState.COMMITTED}
                assert ask(store, peer, now=LATER + HOUR) == 0
                return
            assert known <= {CommitmentState.DUE, CommitmentState.ASKED}
            if was_sent:  # the report on what the killed process asked arrives after all
                request = archive.requests[0]
                one = [
                    (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                    for item in report_of(request).ReferencedSOPSequence
                ][:1]
                store.commitments.take_report(
                    str(request.TransactionUID), ["archive"], committed=one, failed={}, now=LATER
                )
            assert ask(store, peer, now=LATER + timedelta(minutes=6)) == 1
            assert len(archive.requests[-1].ReferencedSOPSequence) == (1 if was_sent else 2)
            assert set(states(store).values()) == {CommitmentState.COMMITTED}

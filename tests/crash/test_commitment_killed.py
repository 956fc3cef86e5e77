"""A node that is killed while it asks for storage commitment asks again, and believes no more than it was told."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.store import CommitmentState, Store
from dicom_node.store.work.commitments import Commitments
from tests.commitment_scp import Behaviour, report_of, start_commitment_scp
from tests.crash.parts import fork
from tests.new_store import NewStore
from tests.peers.test_commitment import HOUR, LATER, ask, deliver_results, peer_at, states

# Where the process dies: before and after the request is recorded, after it is answered, after the report is recorded.
METHODS = {
    "before-prepare": "prepare",
    "after-prepare": "prepare",
    "after-answer": "note_answer",
    "after-report": "take_report",
}


def ask_and_die(step: str, data_dir: Path, port: int) -> None:
    """Ask for commitment, in a process that ends at this step."""
    method = getattr(Commitments, METHODS[step])

    def die(*args: Any, **options: Any) -> None:
        if step in ("after-prepare", "after-report"):
            method(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Commitments, METHODS[step], die)
    with Store.open(data_dir) as store:
        ask(store, peer_at(port))


@pytest.mark.parametrize("step", METHODS)
def test_a_killed_node_asks_again_for_what_is_not_confirmed(new_store: NewStore, tmp_path: Path, step: str) -> None:
    with start_commitment_scp(Behaviour.AFTER if step == "after-report" else Behaviour.SILENT) as archive:
        peer = peer_at(archive.port)
        with new_store(tmp_path) as store:
            deliver_results(store, peer)
        killed = fork(ask_and_die, step, tmp_path, archive.port)
        killed.join(120)
        assert killed.exitcode == -signal.SIGKILL
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

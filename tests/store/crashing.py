"""Processes that kill themselves between two steps, each forked from one that has imported all.

``python -m tests.store.crashing FUNCTION DATA_DIR NOTES FIRST_STEP LAST_STEP STRIDE``; a step of 0 lets one live, and
notes how many steps there are.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dicom_node.store import JobState, NewResult, NewVerdict, Outcome, Store
from tests.store.sending import T0, Sent, instance, keep

STEPS = frozenset(
    {"open", "write", "link", "unlink", "remove", "fsync", "fdatasync", "execute", "executemany", "commit"}
)
"""C functions that touch the disk or the index; a process can die before and after each call of them."""


class Death:
    """Kills the process with SIGKILL at the n-th step, counted over all threads."""

    def __init__(self, at_step: int) -> None:
        self.at_step = at_step
        self.n_steps = 0

    def arm(self) -> None:
        threading.setprofile(self._watch)
        sys.setprofile(self._watch)

    def disarm(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _watch(self, _frame: FrameType, event: str, argument: Any) -> None:
        if event in ("c_call", "c_return") and getattr(argument, "__name__", "") in STEPS:
            self.n_steps += 1
            if self.n_steps == self.at_step:
                os.kill(os.getpid(), signal.SIGKILL)


def sent_in_round(step: int) -> Sequence[Sent]:
    """Three instances of two series, and a conflicting one; the UIDs are the round's own."""
    study, one, two = f"1.2.{step}", f"1.2.{step}.1", f"1.2.{step}.2"
    return (
        instance(1, study=study, series=one),
        instance(1, study=study, series=two),
        instance(1, study=study, series=one, PatientID="P2"),
        instance(2, study=study, series=one),
    )


def receive(store: Store, step: int, notes: int, death: Death) -> None:
    """Keep a round's instances; note each that was acknowledged."""
    for sent in sent_in_round(step):
        death.arm()
        kept = keep(store, sent)
        death.disarm()
        os.write(notes, f"{step} {sent.uid} {kept}\n".encode())


def work(store: Store, step: int, notes: int, death: Death) -> None:
    """End the job that the round's worker holds."""
    (job,) = [job for job in store.jobs.list(states=[JobState.RUNNING], limit=1000) if job.owner == f"w{step}"]
    death.arm()
    store.jobs.succeed(job.id, f"w{step}", outcome(step), T0)
    death.disarm()
    os.write(notes, f"{step} {job.id} succeeded\n".encode())


def erase(store: Store, step: int, notes: int, death: Death) -> None:
    """Delete the round's study."""
    death.arm()
    store.erasure.delete(f"1.2.{step}", reason="consent withdrawn", decided_by="Ann", now=T0)
    death.disarm()
    os.write(notes, f"{step} erased\n".encode())


def outcome(step: int) -> Outcome:
    """One SEG-like result with a verdict, for two peers."""
    sent = instance(1, study=f"1.2.{step}", series=f"1.2.{step}.900", Modality="SEG")
    result = NewResult(
        kind="seg",
        stack_number=1,
        sop_class_uid=sent.arrival.sop_class_uid,
        sop_instance_uid=sent.uid,
        transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
        encoded_dataset=sent.encoded,
    )
    verdict = NewVerdict(
        stack_number=1,
        verdict="face_present",
        probability=0.9,
        reasons=("face found",),
        remark_codes=frozenset({"several-stacks"}),
        report={"remarks": [{"code": "several-stacks", "text": "the series holds 2 stacks"}]},
    )
    return Outcome(results=(result,), verdicts=(verdict,), tags={"face": "present"}, deliver_to=("pacs", "archive"))


def main(function: str, data_dir: str, notes_file: str, first: str, last: str, stride: str) -> None:
    """Fork a process for each step, one after the other, on one data directory."""
    body: Callable[[Store, int, int, Death], None] = {"receive": receive, "work": work, "erase": erase}[function]
    notes = os.open(notes_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for step in range(int(first), int(last) + 1, int(stride)):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            continue
        death = Death(step)
        with Store.open(Path(data_dir)) as store:
            body(store, step, notes, death)
        os.write(notes, f"{step} alive {death.n_steps}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

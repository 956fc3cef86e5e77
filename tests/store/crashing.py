"""A process that kills itself between two steps; importable, so that a fork server can run it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from dicom_node.store import NewResult, NewVerdict, Outcome, Store
from tests.store.sending import T0, instance, keep

STEPS = frozenset({"open", "write", "link", "unlink", "remove", "fsync", "fdatasync", "execute", "executemany", "commit"})
"""C functions that touch the disk or the index; the process can die before and after each call of them."""


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


def receive(data_dir: Path, acknowledged: Path, at_step: int) -> None:
    """Keep three instances of two series and a conflicting one; note each that was acknowledged."""
    store = Store.open(data_dir)
    notes = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    death = Death(at_step)
    death.arm()
    for sent in sent_before_death():
        kept = keep(store, sent)
        death.disarm()
        os.write(notes, f"{sent.uid} {kept}\n".encode())
        death.arm()
    death.disarm()
    acknowledged.with_suffix(".steps").write_text(str(death.n_steps))


def sent_before_death():
    yield instance(1)
    yield instance(1, series="1.2.3.5")
    yield instance(1, PatientID="P2")  # other bytes under a known UID
    yield instance(2)


def succeed(data_dir: Path, job_id: int, at_step: int, n_steps: Path) -> None:
    """End a job with a result, a verdict and deliveries to two peers."""
    store = Store.open(data_dir)
    death = Death(at_step)
    death.arm()
    store.jobs.succeed(job_id, "w", outcome(), T0)
    death.disarm()
    n_steps.write_text(str(death.n_steps))


def outcome(**attributes: Any) -> Outcome:
    """One SEG-like result with a verdict, for two peers."""
    sent = instance(1, series="1.2.3.900", Modality="SEG", **attributes)
    result = NewResult(
        kind="seg",
        stack_number=1,
        sop_class_uid=sent.arrival.sop_class_uid,
        sop_instance_uid=sent.uid,
        transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
        encoded_dataset=sent.encoded,
    )
    verdict = NewVerdict(stack_number=1, verdict="face_present", probability=0.9, reasons=("face found",), report={"a": 1})
    return Outcome(results=(result,), verdicts=(verdict,), tags={"face": "present"}, deliver_to=("pacs", "archive"))

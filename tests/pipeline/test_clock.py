"""What happens by time goes on, whatever one tick does."""

from __future__ import annotations

import threading
import time

from dicom_node.pipeline.clock import Clock, Tick


def test_a_tick_that_fails_comes_again_and_a_slow_one_delays_no_other() -> None:
    hanging, quick, failed = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)
    n_slow = 0

    def fail() -> None:
        failed.release()
        raise RuntimeError("the database is away")

    def hang() -> None:
        nonlocal n_slow
        n_slow += 1
        hanging.wait(10.0)

    with Clock([Tick("fails", fail, 0.05), Tick("slow", hang, 0.05), Tick("quick", quick.release, 0.05)]):
        assert all(failed.acquire(timeout=60.0) for _ in range(3))
        assert all(quick.acquire(timeout=60.0) for _ in range(3))
        assert n_slow == 1  # never two at once
        hanging.set()


def test_a_tick_runs_at_once_and_not_after_the_clock_has_stopped() -> None:
    ran = threading.Semaphore(0)
    started = time.monotonic()
    with Clock([Tick("rare", ran.release, 3600.0)]):
        assert ran.acquire(timeout=60.0)
    assert time.monotonic() - started < 5.0
    assert not ran.acquire(timeout=0.1)

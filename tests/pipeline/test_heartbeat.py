"""Keeping a lease alive, and knowing when it is lost."""

from __future__ import annotations

import threading

from dicom_node.pipeline.heartbeat import Heartbeat

LEASE_S = 0.6


def test_the_lease_is_extended_until_the_work_is_done_and_then_no_more() -> None:
    third = threading.Event()
    n_beats = 0

    def extend() -> bool:
        nonlocal n_beats
        n_beats += 1
        if n_beats == 3:
            third.set()
        return True

    with Heartbeat(extend, lease_s=LEASE_S) as heartbeat:
        assert third.wait(60.0)
        assert not heartbeat.is_lost
    n_beats_at_end = n_beats
    assert not threading.Event().wait(2 * LEASE_S)
    assert n_beats == n_beats_at_end


def test_a_lease_that_is_not_ours_any_more_is_lost_for_good() -> None:
    asked = threading.Event()

    def extend() -> bool:
        asked.set()
        return False

    with Heartbeat(extend, lease_s=LEASE_S) as heartbeat:
        assert asked.wait(60.0)
    assert heartbeat.is_lost


def test_one_missed_beat_loses_nothing_but_a_silent_store_does() -> None:
    answers = iter([OSError("disk"), True])
    recovered, silent = threading.Event(), threading.Event()

    def extend() -> bool:
        answer = next(answers, None)
        if answer is True:
            recovered.set()
            return True
        if answer is None:
            silent.set()
        raise answer or OSError("disk")

    with Heartbeat(extend, lease_s=LEASE_S) as heartbeat:
        assert recovered.wait(60.0)
        assert not heartbeat.is_lost
        assert silent.wait(60.0)
        deadline = threading.Event()
        while not heartbeat.is_lost and not deadline.wait(0.02):
            pass
    assert heartbeat.is_lost

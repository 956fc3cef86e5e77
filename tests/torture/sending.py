"""Senders that do what a PACS does: each instance again and again, until it is acknowledged."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from tests.arrivals import dataset_bytes
from tests.dimse.raw_peer import RawPeer
from tests.factories import ct_series
from tests.torture.tally import Tally

SUCCESS = 0x0000


def send(
    number: int,
    addresses: Sequence[tuple[str, int]],
    tally: Tally,
    over: threading.Event,
    *,
    n_slices: int,
    pause_s: float,
) -> None:
    """Send series after series, each instance until it is acknowledged; the last series is sent to its end."""
    rng, peer, longest, index = random.Random(number), None, 0.0, 0
    while not over.is_set():
        series = ct_series(n_slices=n_slices, rows=24, columns=20, seed=f"torture-{number}-{index}")
        index += 1
        with tally.lock:
            tally.n_series += 1
        for instance in series:
            time.sleep(pause_s)
            uid, data_set = str(instance.dataset().SOPInstanceUID), dataset_bytes(instance.part10)
            began, n_tries = time.monotonic(), 0
            while True:
                n_tries += 1
                try:
                    if peer is None:
                        host, port = rng.choice(addresses)
                        peer = RawPeer(port, to=host)
                        peer.associate()
                    if peer.store(uid, data_set) == SUCCESS:
                        break
                    time.sleep(0.1)  # it is told to come again
                except (OSError, AssertionError, IndexError):  # the receiver was killed, cut off, or is not there yet
                    if peer is not None:
                        peer.socket.close()
                    peer = None
                    time.sleep(0.1)
            longest = max(longest, time.monotonic() - began)
            with tally.lock:
                tally.acknowledged[uid] = data_set
                tally.n_sent_again += n_tries - 1
    if peer is not None:
        peer.socket.close()
    with tally.lock:
        tally.silences_s.append(longest)

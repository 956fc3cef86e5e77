"""Ask peers how many instances a series has, without being delayed by a peer that is down."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from dicom_node.failures import error_code
from dicom_node.peers.errors import DeliveryError
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import SeriesRow

log = logging.getLogger(__name__)

ASK_AGAIN_S = 30.0  # about the same series
REST_S = 60.0  # pause for a peer that did not answer; each query to it costs its timeout


class CountInstances(Protocol):
    """Asks one peer; `dicom_node.peers.count_instances` with the node's own AE title."""

    def __call__(
        self, peer: DimsePeer | DicomwebPeer, study_instance_uid: str, series_instance_uid: str, /
    ) -> int | None:
        """Return how many instances of a series the peer has, or None if it does not know the series."""
        ...


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """The peers' answer about one series."""

    peer: str = ""
    n_instances: int | None = None  # None: no peer knows the series
    doubts: tuple[str, ...] = ()  # peers that should be asked but do not answer


@dataclass(slots=True)
class _Asked:
    answer: PeerAnswer
    ask_again_at: datetime


@dataclass(slots=True)
class PeerCounts:
    """Counts from the peers in the settings, asked in their order until one knows the series."""

    peers: Sequence[DimsePeer | DicomwebPeer]
    ask: CountInstances
    _asked: dict[tuple[str, int], _Asked] = field(default_factory=dict)
    _rests_until: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # by peer: until when, and why

    def count(self, series: SeriesRow, now: datetime) -> PeerAnswer:
        """Return the peers' answer, from the cache if the number of instances is the same."""
        key = (series.series_instance_uid, series.n_instances)
        asked = self._asked.get(key)
        if asked is None or now >= asked.ask_again_at:
            answer = self._ask_all(series, now)
            asked = self._asked[key] = _Asked(answer, self._ask_again_at(now))
        return asked.answer

    def forget_others(self, series: Sequence[SeriesRow]) -> None:
        """Drop the answers about all other series."""
        keys = {(each.series_instance_uid, each.n_instances) for each in series}
        self._asked = {key: asked for key, asked in self._asked.items() if key in keys}

    def forget(self) -> None:
        """Drop all answers and all pauses of peers."""
        self._asked.clear()
        self._rests_until.clear()

    def _ask_again_at(self, now: datetime) -> datetime:
        """Return the time `ASK_AGAIN_S` after ``now``, or earlier if the pause of a silent peer ends."""
        rested_at = (until for until, _ in self._rests_until.values() if until > now)
        return min((now + timedelta(seconds=ASK_AGAIN_S), *rested_at))

    def _ask_all(self, series: SeriesRow, now: datetime) -> PeerAnswer:
        doubts = []
        for peer in self.peers:
            until, why = self._rests_until.get(peer.name, (now, ""))
            if now < until:
                doubts.append(f"{peer.name} does not say how many it has ({why})")
                continue
            try:
                n_instances = self.ask(peer, series.study_instance_uid, series.series_instance_uid)
            except Exception as error:  # whatever the error, series are closed anyway
                code = error_code(error)
                log.warning(
                    "peer does not say how many instances a series has: %s",
                    error if isinstance(error, DeliveryError) else type(error).__name__,
                    extra={"peer": peer.name, "series_instance_uid": series.series_instance_uid, "code": code},
                    exc_info=not isinstance(error, DeliveryError),
                )
                self._rests_until[peer.name] = (now + timedelta(seconds=REST_S), code)
                doubts.append(f"{peer.name} does not say how many it has ({code})")
                continue
            if n_instances is not None:
                return PeerAnswer(peer.name, n_instances)
        return PeerAnswer(doubts=tuple(doubts))

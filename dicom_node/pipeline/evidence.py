"""Gather evidence on whether a quiet series is complete, from the index, its sender and peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dicom_node.pipeline.completeness import Evidence
from dicom_node.pipeline.counting import PeerCounts
from dicom_node.pipeline.gaps import find_gap
from dicom_node.store import SeriesRow, Store
from inference.series.objects import MOSAIC, VFRAME

IMAGE_TYPE, POSITION, ORIENTATION = "00080008", "00200032", "00200037"
ACQUISITION_NUMBER, IMAGES_IN_ACQUISITION, SERIES_RELATED_INSTANCES = "00200012", "00201002", "00201209"
N_POSITION, N_ORIENTATION = 3, 6


@dataclass(frozen=True, slots=True)
class Claims:
    """What the instances of a series say about how many there should be."""

    n_of_series: int | None = None  # Number of Series Related Instances
    doubts: tuple[str, ...] = ()  # acquisitions and positions with instances that seem to be missing


class Witnesses:
    """Collects evidence on whether series are complete; caches what instances say until new ones arrive."""

    def __init__(self, store: Store, peers: PeerCounts, *, quiet_s: float) -> None:
        self._store = store
        self._peers = peers
        self._quiet_s = quiet_s
        self._claims: dict[tuple[str, int, int], Claims] = {}

    def hear(self, series: SeriesRow, now: datetime) -> Evidence:
        """Return the evidence on one series; an answer from a peer takes precedence over the instances' claims."""
        n_here = series.n_instances
        answer = self._peers.count(series, now)
        if answer.n_instances == n_here:
            return Evidence(confirmed=f"{answer.peer} has {n_here} instances, as many as are here")
        doubts = list(answer.doubts)
        if answer.n_instances is not None and answer.n_instances > n_here:
            doubts.append(f"{answer.peer} has {answer.n_instances} instances, {n_here} are here")
        if self._is_sender_pausing(series):
            doubts.append("the association that brought it is still open")
        claims = self._claims_of(series)
        if claims.n_of_series == n_here and not doubts:
            return Evidence(confirmed=f"its instances say that it has {n_here}, as many as are here")
        if claims.n_of_series is not None and claims.n_of_series > n_here:
            doubts.append(f"its instances say that it has {claims.n_of_series}, {n_here} are here")
        return Evidence(doubts=(*doubts, *claims.doubts))

    def forget_others(self, series: Sequence[SeriesRow]) -> None:
        """Drop the cache of all other series."""
        keys = {_key(each) for each in series}
        self._claims = {key: claims for key, claims in self._claims.items() if key in keys}
        self._peers.forget_others(series)

    def forget(self) -> None:
        """Drop the whole cache after the clock was set, including when to ask a peer again."""
        self._claims.clear()
        self._peers.forget()

    def _is_sender_pausing(self, series: SeriesRow) -> bool:
        """Return whether an association that brought the series is open and sends nothing at all.

        One that has sent other instances for the whole quiet period is done with this series.
        """
        is_over_after = series.last_arrival_at + timedelta(seconds=self._quiet_s)
        for association_id in self._store.series.association_ids(series.series_instance_uid):
            last_message_at = self._store.associations.last_message_at(association_id)
            if last_message_at is not None and last_message_at < is_over_after:
                return True
        return False

    def _claims_of(self, series: SeriesRow) -> Claims:
        claims = self._claims.get(_key(series))
        if claims is None:
            attributes = self._store.series.instance_attributes(series.series_instance_uid)
            claims = self._claims[_key(series)] = read_claims(attributes)
        return claims


def read_claims(instances: Sequence[Mapping[str, Any]]) -> Claims:
    """Return what instances claim, from their DICOM JSON attributes; implausible values are ignored."""
    numbers = [number for one in instances if (number := _integer(one, SERIES_RELATED_INSTANCES)) is not None]
    doubts = _short_acquisitions(instances)
    gap = find_gap(
        (position, orientation)
        for one in instances
        if not _is_mosaic(one)  # positions of mosaics differ by head motion, which some scanners track
        and (position := _numbers(one, POSITION, N_POSITION))
        and (orientation := _numbers(one, ORIENTATION, N_ORIENTATION))
    )
    return Claims(max(numbers, default=None), (*doubts, *((gap,) if gap else ())))


def _short_acquisitions(instances: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return acquisitions with fewer images than Images in Acquisition says; several series may share one."""
    here = Counter(_integer(one, ACQUISITION_NUMBER) for one in instances)
    said = {
        _integer(one, ACQUISITION_NUMBER): number
        for one in instances
        if (number := _integer(one, IMAGES_IN_ACQUISITION)) is not None
    }
    return tuple(
        f"acquisition {'without a number' if number is None else number} has {n_said} images, {here[number]} are here"
        for number, n_said in said.items()
        if n_said > here[number]
    )[:1]


def _is_mosaic(one: Mapping[str, Any]) -> bool:
    """Return whether the instance contains all slices of a volume."""
    return not {MOSAIC, VFRAME}.isdisjoint(one.get(IMAGE_TYPE, {}).get("Value") or [])


def _integer(one: Mapping[str, Any], tag: str) -> int | None:
    value = (one.get(tag, {}).get("Value") or [None])[0]
    return value if isinstance(value, int) else None


def _numbers(one: Mapping[str, Any], tag: str, n_values: int) -> list[float] | None:
    values = one.get(tag, {}).get("Value") or []
    are_numbers = len(values) == n_values and all(isinstance(value, int | float) for value in values)
    return values if are_numbers else None


def _key(series: SeriesRow) -> tuple[str, int, int]:
    return series.series_instance_uid, series.generation, series.n_instances

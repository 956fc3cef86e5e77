"""Check multi-frame images that were divided into several instances because of their size (PS3.3 C.7.6.16.2.2.4)."""

from __future__ import annotations

from collections.abc import Sequence

from inference.series.errors import ConcatenationIncompleteError
from inference.series.instances import Instance, reading
from inference.series.uids import shown_uid


def check_concatenations(instances: Sequence[Instance], series_instance_uid: str) -> None:
    """Refuse a series in which a part of a concatenation is missing, because its stack would be incomplete.

    Raises
    ------
    ConcatenationIncompleteError
        Fewer parts than In-concatenation Total Number says. Where that is absent, nothing is known.
    """
    parts: dict[str, int] = {}
    totals: dict[str, int] = {}
    for instance in instances:
        with reading(instance.name):
            uid = str(instance.header.get("ConcatenationUID") or "")
            if not uid:
                continue
            parts[uid] = parts.get(uid, 0) + 1
            totals[uid] = max(totals.get(uid, 0), int(instance.header.get("InConcatenationTotalNumber") or 0))
    for uid, n_parts in parts.items():
        if n_parts < totals[uid]:
            raise ConcatenationIncompleteError(series_instance_uid, shown_uid(uid), n_parts, totals[uid])

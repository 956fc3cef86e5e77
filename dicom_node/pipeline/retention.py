"""Delete sources by policy: only finished and delivered series, and only if the settings say so."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from dicom_node.store import Store

log = logging.getLogger(__name__)


def delete_old_sources(
    store: Store, *, sources_days: float | None, now: datetime, committing_peers: Collection[str] = ()
) -> int:
    """Delete received instances of series closed more than ``sources_days`` ago; return the number of series.

    ``None`` deletes nothing. The node's own objects and all index rows always stay.
    """
    if sources_days is None:
        return 0
    n_series = 0
    before = now - timedelta(days=sources_days)
    while due := store.retention.due(before, committing_peers=committing_peers):
        deleted = [
            series for series in due if store.retention.delete_sources(series, now, committing_peers=committing_peers)
        ]
        for series in deleted:
            fields = {"series_instance_uid": series.series_instance_uid, "n_instances": series.n_instances}
            log.info("sources deleted", extra=fields)
        n_series += len(deleted)
        if not deleted:
            break
    return n_series

"""What a node is doing, read from its store and its ports."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from dicom_node import app
from dicom_node.errors import Refused
from dicom_node.settings import Settings
from dicom_node.store import JobState, Store

CONNECT_TIMEOUT_S = 1.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked at this machine's own address
N_DEAD_SHOWN = 20


class NoStoreError(Refused):
    """There is no data directory yet, so no state to ask for."""

    code: ClassVar[str] = "no-store"

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)

    def __str__(self) -> str:
        return (
            f"{self.args[0]}: no such folder, so no node has run with these settings; "
            "give the node's settings file with -c, or start it with `dicom-node serve`"
        )


def node_state(settings: Settings, store: Store) -> dict[str, Any]:
    """Counts by state, what ended for good with its reason, and whether the ports answer."""
    counts = app.status(store)
    dead_jobs = store.jobs.list(states=(JobState.DEAD,), limit=N_DEAD_SHOWN)
    dead_deliveries = store.deliveries.list(states=(JobState.DEAD,), limit=N_DEAD_SHOWN)
    return {
        "ae_title": settings.node.ae_title,
        "data_dir": str(settings.node.data_dir),
        "dimse": _port_state(settings.dimse.host, settings.dimse.port),
        "web": _port_state(settings.web.host, settings.web.port),
        **counts,
        "dead_jobs": [
            {
                "id": job.id,
                "series_instance_uid": job.series_instance_uid,
                "code": job.error_code,
                "message": job.error_message,
            }
            for job in dead_jobs
        ],
        "dead_deliveries": [
            {"id": delivery.id, "peer": delivery.peer, "code": delivery.error_code, "message": delivery.error_message}
            for delivery in dead_deliveries
        ],
        "more_dead_jobs": counts["jobs"].get(JobState.DEAD.value, 0) - len(dead_jobs),
        "more_dead_deliveries": counts["deliveries"].get(JobState.DEAD.value, 0) - len(dead_deliveries),
    }


def _port_state(host: str, port: int) -> dict[str, Any]:
    """Whether something listens; a port that the system chose is not known here."""
    answers: bool | None = None
    if port:
        try:
            with closing(socket.create_connection((ANYWHERE.get(host, host), port), timeout=CONNECT_TIMEOUT_S)):
                answers = True
        except OSError:
            answers = False
    return {"host": host, "port": port, "answers": answers}

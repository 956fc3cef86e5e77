"""Health checks: whether the process is alive, and whether the node answers from its index and accepts instances."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicom_node.dicomweb.problems import RETRY_AFTER_S, problem
from dicom_node.store import Store, part_troubles

RECEIVER: Final = "receive"


class HealthService:
    """``/health/live`` and ``/health/ready``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def live(self, _: Request) -> Response:
        """Answer that the process is alive."""
        return JSONResponse({"status": "live"})

    def ready(self, _: Request) -> Response:
        """Answer whether the index responds and instances are accepted; 503 with the reason otherwise.

        Other troubles of the node are listed in the answer and leave it ready. A part that was never started, or
        that was stopped, is ignored: perhaps only the web server is needed.
        """
        self._store.studies.list(limit=1)
        parts = Store.parts(self._store.data_dir)
        receivers = [part for part in parts if part.name == RECEIVER]
        running = [part for part in receivers if part.is_running]
        for trouble in part_troubles(receivers, (RECEIVER,) if receivers else ()):
            # The error that ended a process may name files of this machine; only `dicom-node status` shows it.
            return _unavailable(trouble.code, trouble.message if running else "the receiver does not run")
        if running and not any(part.is_ready for part in running):
            return _unavailable("starting", "the receiver does not listen yet")
        others = part_troubles(parts, sorted({part.name for part in parts}))
        return JSONResponse({"status": "ready", "troubles": [{"about": one.about, "code": one.code} for one in others]})


def _unavailable(code: str, detail: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers)

"""Whether the process lives, and whether the node can answer from its index and takes instances."""

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
        """The process answers."""
        return JSONResponse({"status": "live"})

    def ready(self, _: Request) -> Response:
        """The index answers and instances are not refused; 503 with the reason otherwise.

        What else is wrong with the node is listed in the answer and leaves it ready. A part that was never started, or
        that was stopped, says nothing here: the web server may be all that is wanted.
        """
        self._store.studies.list(limit=1)
        parts = Store.parts(self._store.data_dir)
        receivers = [part for part in parts if part.name == RECEIVER]
        running = [part for part in receivers if part.is_running]
        for trouble in part_troubles(receivers, (RECEIVER,) if receivers else ()):
            # What ended a process may name files of this machine; that is for `dicom-node status`.
            return _unavailable(trouble.code, trouble.message if running else "the receiver does not run")
        if running and not any(part.is_ready for part in running):
            return _unavailable("starting", "the receiver does not listen yet")
        others = part_troubles(parts, sorted({part.name for part in parts}))
        return JSONResponse({"status": "ready", "troubles": [{"about": one.about, "code": one.code} for one in others]})


def _unavailable(code: str, detail: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers)

"""Whether the process lives, and whether it can answer from the index."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicom_node.store import Store


class HealthService:
    """``/health/live`` and ``/health/ready``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def live(self, _: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "live"})

    def ready(self, _: Request) -> Response:
        """The index answers as well; 503 with the reason where it does not."""
        self._store.studies.list(limit=1)
        return JSONResponse({"status": "ready"})

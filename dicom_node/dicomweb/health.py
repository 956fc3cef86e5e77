"""Health checks: whether the process is alive, and whether the node answers from its index and accepts instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicom_node.dicomweb.problems import RETRY_AFTER_S, problem
from dicom_node.store import Store, part_troubles

if TYPE_CHECKING:
    from dicom_node.upper_layer.tls.certificates import CertificateFacts

RECEIVER: Final = "receive"


class HealthService:
    """``/health/live`` and ``/health/ready``."""

    def __init__(self, store: Store, certificates: Callable[[], Sequence[CertificateFacts]] = tuple) -> None:
        self._store = store
        self._certificates = certificates

    def live(self, _: Request) -> Response:
        """Answer that the process is alive."""
        return JSONResponse({"status": "live"})

    def ready(self, _: Request) -> Response:
        """Answer whether the index responds and instances are accepted; 503 with the reason otherwise.

        Other troubles of the node, and certificates that expire, are listed in the answer and leave it ready. A part
        that was never started, or that was stopped, is ignored: perhaps only the web server is needed.
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
        troubles = [{"about": one.about, "code": one.code} for one in others]
        return JSONResponse({"status": "ready", "troubles": troubles, "warnings": self._warnings()})

    def _warnings(self) -> list[dict[str, object]]:
        """Return the certificates that are not valid, or not for long; ``days`` is negative once one has expired."""
        now = datetime.now(UTC)
        return [
            {"about": each.about, "code": each.validity(now).value, "days": (each.not_after - now).days}
            for each in self._certificates()
            if each.warning(now) is not None
        ]


def _unavailable(code: str, detail: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers)

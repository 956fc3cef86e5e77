"""Requests that the page refuses leave a line in the audit trail; one that is repeated leaves one a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from starlette.requests import Request

from dicom_node.access.callers import caller_of
from dicom_node.access.gatekeeper import address_of
from dicom_node.access.seldom import Seldom
from dicom_node.errors import NodeError
from dicom_node.store import Store, StoreError

log = logging.getLogger(__name__)

PERIOD_S: Final = 60.0  # between two lines on the same refusal
MAX_CHARACTERS: Final = 200


class Refusals:
    """Writes refused requests into the audit trail: who, from where, what and why."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._seldom = Seldom(PERIOD_S)

    def note(self, request: Request, error: NodeError) -> None:
        """Write the line, with the code of the error as what happened, unless it was written a moment ago."""
        caller, address = caller_of(request), address_of(request)
        actor = "unknown" if caller is None else caller.name
        subject = f"{request.method} {request.url.path}"[:MAX_CHARACTERS]
        number = self._seldom.count((error.code, actor, subject, address), time.monotonic())
        if number is None:
            return
        detail = {"address": address, "reason": str(error)[:MAX_CHARACTERS], "times": number}
        try:
            self._store.audit.record(error.code, actor=actor, subject=subject, now=self._clock(), detail=detail)
        except StoreError as store_error:  # refused in any case
            log.error("a refusal is not in the audit trail: %s", store_error, extra={"code": error.code})  # noqa: TRY400

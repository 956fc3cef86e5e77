"""DELETE of results, for administrators: people with that role, or those whom a proxy names and the settings know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.access.callers import caller_of
from dicom_node.access.gatekeeper import address_of
from dicom_node.access.refusals import Refusals
from dicom_node.dicomweb.errors import NotAllowedError
from dicom_node.dicomweb.metadata import find_rows
from dicom_node.dicomweb.resources import path_uids, resource_name
from dicom_node.store import Origin, Store

log = logging.getLogger(__name__)

REFUSED: Final = "deletion refused"
MAX_NAME_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Administrators:
    """Who may delete results, and the header in which the proxy says who somebody is."""

    header: str
    names: Sequence[str]


class DeleteService:
    """``DELETE`` of a series of results, or of one result."""

    def __init__(
        self,
        store: Store,
        administrators: Administrators | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._administrators = administrators
        self._clock = clock
        self._refusals = Refusals(store, clock)

    def delete(self, request: Request) -> Response:
        """Withdraw results; 403 for everybody else, and for what was received."""
        uids = path_uids(request)
        rows = find_rows(self._store.search, uids)
        series_instance_uid, sop_instance_uid = uids["SeriesInstanceUID"], uids.get("SOPInstanceUID")
        name = self._administrator(request, uids)
        if any(row.origin is not Origin.NODE for row in rows):
            self._refuse(request, uids, name, "it was received; `dicom-node studies delete` is for whole studies")
        withdrawn = self._store.result_withdrawal.withdraw(
            series_instance_uid=series_instance_uid, sop_instance_uid=sop_instance_uid, actor=name, now=self._clock()
        )
        fields = {"series_instance_uid": series_instance_uid, "n_results": len(withdrawn)}
        log.warning("results withdrawn by an administrator", extra=fields)
        return Response(status_code=204)

    def _administrator(self, request: Request, uids: dict[str, str]) -> str:
        """Return who deletes; who has signed in comes here only with the right to."""
        caller = caller_of(request)
        if caller is not None:
            return caller.name
        known = self._administrators or Administrators("", ())
        name = request.headers.get(known.header, "").strip()[:MAX_NAME_CHARACTERS]
        if not name or name not in known.names:
            self._refuse(request, uids, name, f"{name or 'somebody without a name'} is not in web.administrators")
        return name

    def _refuse(self, request: Request, uids: dict[str, str], name: str, reason: str) -> None:
        caller, address = caller_of(request), address_of(request)
        self._refusals.note(
            REFUSED,
            actor=name or "unknown",
            subject=uids["SeriesInstanceUID"],
            source=address if caller is None else caller.name,
            detail={"reason": reason, "address": address},
        )
        raise NotAllowedError(resource_name(uids), reason)

"""Answer Store requests: the body is read in pieces, which other threads split, write and make durable."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dicom_node.access.callers import caller_of
from dicom_node.dicomweb.errors import BadRequestError, UnsupportedMediaTypeError
from dicom_node.dicomweb.media_types import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    MediaRange,
    parse_media_type,
    single_document_type,
)
from dicom_node.dicomweb.problems import answer_error
from dicom_node.dicomweb.resources import path_uids
from dicom_node.dicomweb.storing.answer import store_response
from dicom_node.dicomweb.storing.body import Body, multipart_body, single_body
from dicom_node.errors import NodeError
from dicom_node.http_intake.errors import HttpIntakeError, MalformedBodyError, TooManyUploadsError
from dicom_node.http_intake.intake import Intake
from dicom_node.http_intake.limits import RequestSlots, StoreLimits, body_pieces, check_length
from dicom_node.http_intake.outcomes import Outcome
from dicom_node.store import Store

log = logging.getLogger(__name__)

SENDER: Final = "STOW-RS"  # in place of a calling AE title
MAX_BOUNDARY_CHARACTERS: Final = 70  # RFC 2046 5.1.1
_TAKEN: Final = f'{MULTIPART}; type="{DICOM}", {MULTIPART}; type="{DICOM_JSON}", or {DICOM}'


class StoreService:
    """``POST /studies`` and ``POST /studies/{study}``."""

    def __init__(
        self, store: Store, limits: StoreLimits, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._slots = RequestSlots(limits.max_requests)
        self._executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="stow")

    async def receive(self, request: Request) -> Response:
        """Store the instances in the body; success only once they are on disk and in the index."""
        try:
            with self._slots.take():
                return await self._receive(request)
        except TooManyUploadsError as error:
            return _closing(answer_error(request, error))

    async def _receive(self, request: Request) -> Response:
        try:
            answer_type = single_document_type(request, "answer to a Store request")
            study_instance_uid = path_uids(request).get("StudyInstanceUID")
            content_type = parse_media_type(request.headers.get("content-type", ""))
            check_length(request, self._limits)
            await run_in_threadpool(self._store.inbox.check_space)
            association_id = uuid.uuid4().hex
            intake = self._intake(association_id, study_instance_uid)
            body = _begin_body(content_type, intake)
        except NodeError as error:
            return _closing(answer_error(request, error))
        failure: Exception | None = None
        with self._store.associations.hold(association_id) as note_message:
            try:
                async for piece in body_pieces(request, self._limits):
                    note_message(self._clock())
                    await run_in_threadpool(body.feed, piece)
                await run_in_threadpool(body.finish)
            except (HttpIntakeError, ClientDisconnect) as error:
                failure = error
                await run_in_threadpool(body.discard, _told(error))
            except BaseException:
                await run_in_threadpool(body.discard, MalformedBodyError("it was not read to its end"))
                await run_in_threadpool(intake.outcomes)
                raise
            outcomes = await run_in_threadpool(intake.outcomes)
        await run_in_threadpool(self._log, request, association_id, outcomes)
        if failure is not None and (isinstance(failure, ClientDisconnect) or not _has_stored(outcomes)):
            return _closing(answer_error(request, _told(failure)))
        if not outcomes:
            return answer_error(request, MalformedBodyError("it has no part"))
        response = store_response(request, outcomes, answer_type)
        return response if failure is None else _closing(response)

    def _intake(self, association_id: str, study_instance_uid: str | None) -> Intake:
        return Intake(
            self._store,
            sender=SENDER,
            association_id=association_id,
            study_instance_uid=study_instance_uid,
            max_object_bytes=self._limits.max_object_bytes,
            accept_unknown=self._limits.accept_unknown_uids,
            executor=self._executor,
            clock=self._clock,
        )

    def _log(self, request: Request, association_id: str, outcomes: list[Outcome]) -> None:
        n_stored = sum(outcome.is_stored for outcome in outcomes)
        fields = {"association_id": association_id, "n_stored": n_stored, "n_failed": len(outcomes) - n_stored}
        log.info("instances came by STOW-RS", extra=fields)
        caller, address = caller_of(request), "unknown" if request.client is None else request.client.host
        actor = address if caller is None else caller.name
        detail = {"address": address, "n_stored": n_stored, "n_failed": len(outcomes) - n_stored, "by": SENDER}
        self._store.audit_buffer.note(
            "instances-received", actor=actor, subject=association_id, now=self._clock(), detail=detail
        )


def _begin_body(content_type: MediaRange, intake: Intake) -> Body:
    if content_type.media_type == DICOM:
        return single_body(intake)
    if content_type.media_type != MULTIPART:
        raise UnsupportedMediaTypeError(content_type.media_type, _TAKEN)
    if content_type.part_type not in {DICOM, DICOM_JSON}:
        raise UnsupportedMediaTypeError(f"{MULTIPART}; type={content_type.part_type}", _TAKEN)
    boundary = content_type.parameters.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARACTERS or not boundary.isascii():
        raise BadRequestError("boundary in Content-Type", boundary, f"1 to {MAX_BOUNDARY_CHARACTERS} ASCII characters")
    return multipart_body(boundary.encode("ascii"), content_type.part_type, intake)


def _has_stored(outcomes: list[Outcome]) -> bool:
    return any(outcome.is_stored for outcome in outcomes)


def _told(error: Exception) -> Exception:
    return MalformedBodyError("its sender has left") if isinstance(error, ClientDisconnect) else error


def _closing(response: Response) -> Response:
    """Close the connection after the answer, because the rest of the body is not read."""
    response.headers["Connection"] = "close"
    return response

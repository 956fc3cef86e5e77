"""Receive uploads: nothing is called stored before its bytes and its row are on disk, as for C-STORE."""

from __future__ import annotations

import logging
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from dicom_node.access.callers import caller_of
from dicom_node.access.roles import Right
from dicom_node.errors import NodeError
from dicom_node.http_intake.errors import HttpIntakeError, MalformedBodyError
from dicom_node.http_intake.intake import Intake
from dicom_node.http_intake.limits import RequestSlots, StoreLimits, body_pieces, check_length
from dicom_node.page.errors import UnsupportedBodyError, UploadsOffError
from dicom_node.page.protection import Protection
from dicom_node.page.uploading.files import UploadedFiles
from dicom_node.page.uploading.form import UploadForm
from dicom_node.page.uploading.ledger import FileResult, Ledger, Result
from dicom_node.store import ListedStudy, Store

log = logging.getLogger(__name__)

SENDER: Final = "UPLOAD"  # in place of a calling AE title
UPLOADED: Final = "uploaded"  # what the audit trail calls it
BODIES: Final = {"application/zip": "archive.zip", "application/dicom": "instance.dcm"}
"""Media types of bodies that programs send → what their file is called in the answer."""
MAX_STUDIES: Final = 500  # that are named in an answer
_BOUNDARY: Final = re.compile(r'multipart/form-data\s*;.*?boundary="?([\x21\x23-\x7e]{1,70})"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of a request: of each file, the studies that have them, and why not all of it was read."""

    files: tuple[FileResult, ...]
    studies: tuple[tuple[ListedStudy, int], ...]  # with the number of its files, the first `MAX_STUDIES`
    failure: NodeError | None = None


class Body(Protocol):
    """Takes the bytes of a request."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Take note that the body has ended."""

    def discard(self, error: Exception) -> None:
        """Drop what is not complete, because of an error."""


class Uploads:
    """Receives uploads, if the settings let people upload.

    Parameters
    ----------
    limits
        None if uploads are off.
    """

    def __init__(
        self, store: Store, limits: StoreLimits | None, protection: Protection, clock: Callable[[], datetime]
    ) -> None:
        self.limits = limits
        self._store = store
        self._protection = protection
        self._clock = clock
        self._slots = RequestSlots(0 if limits is None else limits.max_requests)
        self._executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="upload")

    def permitted(self) -> StoreLimits:
        """Return the bounds of uploads; raise `UploadsOffError` if they are off."""
        if self.limits is None:
            raise UploadsOffError
        return self.limits

    async def receive_form(self, request: Request) -> Uploaded:
        """Store the files of a form."""
        self.permitted()
        self._protection.check_origin(request)
        content_type = request.headers.get("content-type", "")
        boundary = _BOUNDARY.match(content_type)
        if boundary is None:
            raise UnsupportedBodyError(content_type, "multipart/form-data with a boundary")

        def begin(_: Ledger, files: UploadedFiles) -> Body:
            return UploadForm(boundary[1].encode(), files, lambda said: self._protection.check_form(request, said))

        return await self._receive(request, begin)

    async def receive_body(self, request: Request) -> Uploaded:
        """Store the one file that is the body of a request; pages of other sites cannot send these media types."""
        self.permitted()
        self._protection.check_origin(request)
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in BODIES:
            raise UnsupportedBodyError(content_type, " or ".join(BODIES))

        def begin(_: Ledger, files: UploadedFiles) -> Body:
            return _OneFile(files, BODIES[content_type])

        return await self._receive(request, begin)

    async def _receive(self, request: Request, begin: Callable[[Ledger, UploadedFiles], Body]) -> Uploaded:
        limits = self.permitted()
        with self._slots.take():
            check_length(request, limits)
            await run_in_threadpool(self._store.inbox.check_space)
            association_id = uuid.uuid4().hex
            ledger = Ledger(self._intake(limits, association_id))
            failure: NodeError | None = None
            with self._store.associations.hold(association_id) as note_message:
                files = UploadedFiles(
                    ledger, max_bytes=limits.max_request_bytes, note=lambda: note_message(self._clock())
                )
                body = begin(ledger, files)
                try:
                    async for piece in body_pieces(request, limits):
                        note_message(self._clock())
                        await run_in_threadpool(body.feed, piece)
                    await run_in_threadpool(body.finish)
                except (HttpIntakeError, ClientDisconnect) as error:
                    failure = error if isinstance(error, HttpIntakeError) else MalformedBodyError("its sender has left")
                    await run_in_threadpool(body.discard, failure)
                except BaseException:
                    await run_in_threadpool(body.discard, MalformedBodyError("it was not read to its end"))
                    await run_in_threadpool(ledger.results)
                    raise
                results = await run_in_threadpool(ledger.results)
            if failure is not None and not results:
                raise failure
            return await run_in_threadpool(self._sum_up, request, association_id, results, failure)

    def _intake(self, limits: StoreLimits, association_id: str) -> Intake:
        return Intake(
            self._store,
            sender=SENDER,
            association_id=association_id,
            study_instance_uid=None,
            max_object_bytes=limits.max_object_bytes,
            accept_unknown=limits.accept_unknown_uids,
            executor=self._executor,
            clock=self._clock,
        )

    def _sum_up(
        self, request: Request, association_id: str, files: tuple[FileResult, ...], failure: NodeError | None
    ) -> Uploaded:
        stored = Counter(one.study_instance_uid for one in files if one.result is Result.STORED)
        caller = caller_of(request)
        user = "unknown" if caller is None else caller.name
        for uid, number in stored.items():
            if uid:
                detail = {"n_instances": number, "association_id": association_id}
                self._store.audit.record(UPLOADED, actor=user, subject=uid, now=self._clock(), detail=detail)
        fields = {"association_id": association_id, "n_stored": stored.total(), "n_files": len(files)}
        log.info("files were uploaded", extra=fields)
        studies = self._studies(Counter(one.study_instance_uid for one in files))
        if caller is not None and not caller.role.has(Right.READ):
            studies = tuple((_nameless(study), number) for study, number in studies)
        return Uploaded(files, studies, failure)

    def _studies(self, found: Mapping[str, int]) -> tuple[tuple[ListedStudy, int], ...]:
        uids = [uid for uid in found if uid][:MAX_STUDIES]
        return tuple((one, found[one.study_instance_uid]) for one in self._store.browsing.listed(uids))


def _nameless(study: ListedStudy) -> ListedStudy:
    """Return a study for somebody who may store and not read: it may have been here before, under this UID."""
    return replace(study, patient_name="", patient_id="", study_date="", study_description="")


class _OneFile:
    """A body that is one file."""

    def __init__(self, files: UploadedFiles, name: str) -> None:
        file = files.begin(name)
        self.feed = file.write
        self.finish = file.finish
        self.discard = file.discard

"""Upload: the form, what became of each file, and the same for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicom_node.page.answers import status_of
from dicom_node.page.rendering import Renderer
from dicom_node.page.uploading.ledger import KEPT, Result, count_results
from dicom_node.page.uploading.receiving import Uploaded, Uploads

MAX_ROWS: Final = 500  # of files in the page; the JSON answer has all
RESULT_WORDS: Final = {
    Result.STORED: "stored",
    Result.KNOWN: "here already",
    Result.SET_ASIDE: "set aside",
    Result.LEFT_OUT: "left out",
    Result.REFUSED: "not stored",
    Result.FAILED: "upload again",
}


class UploadPage:
    """``/upload`` and ``/api/upload``."""

    def __init__(self, uploads: Uploads, renderer: Renderer) -> None:
        self._uploads = uploads
        self._renderer = renderer

    def show(self, request: Request) -> Response:
        """``GET /upload``."""
        return self._html(request, None)

    async def receive(self, request: Request) -> Response:
        """``POST /upload``: a page for a form that was sent without scripts, JSON for the page's own script."""
        uploaded = await self._uploads.receive_form(request)
        if wants_json(request):
            return _json(uploaded)
        return _closed_after(uploaded, await run_in_threadpool(self._html, request, uploaded))

    async def receive_body(self, request: Request) -> Response:
        """``POST /api/upload``."""
        return _json(await self._uploads.receive_body(request))

    def _html(self, request: Request, uploaded: Uploaded | None) -> Response:
        limits = self._uploads.permitted()
        files = () if uploaded is None else uploaded.files
        return self._renderer.html(
            request,
            "upload.html",
            status=200 if uploaded is None else int(status_of_upload(uploaded)),
            uploaded=uploaded,
            counts=count_results(files),
            results=list(Result),
            result_words={result.value: words for result, words in RESULT_WORDS.items()},
            n_kept=sum(one.result in KEPT for one in files),
            told=[one for one in files if one.reason][:MAX_ROWS],
            n_told=sum(bool(one.reason) for one in files),
            max_bytes=limits.max_request_bytes,
        )


def wants_json(request: Request) -> bool:
    """Whether it is the page's own script that asks."""
    return request.headers.get("accept", "").startswith("application/json")


def status_of_upload(uploaded: Uploaded) -> HTTPStatus:
    """Return 200 if all was kept, 202 if some was, 422 if nothing was, 503 if it may be kept later."""
    if uploaded.failure is not None:
        return status_of(uploaded.failure)
    results = {one.result for one in uploaded.files}
    if not results - KEPT - {Result.LEFT_OUT}:
        return HTTPStatus.OK
    if results & KEPT:
        return HTTPStatus.ACCEPTED
    return HTTPStatus.SERVICE_UNAVAILABLE if Result.FAILED in results else HTTPStatus.UNPROCESSABLE_ENTITY


def _json(uploaded: Uploaded) -> Response:
    failure = uploaded.failure
    body: dict[str, Any] = {
        "counts": count_results(uploaded.files),
        "studies": [
            {
                "study_instance_uid": one.study_instance_uid,
                "patient_name": one.patient_name,
                "patient_id": one.patient_id,
                "study_date": one.study_date,
                "study_description": one.study_description,
                "n_files": number,
            }
            for one, number in uploaded.studies
        ],
        "files": [
            {
                "name": one.name,
                "result": one.result.value,
                "reason": one.reason,
                "study_instance_uid": one.study_instance_uid,
                "sop_instance_uid": one.sop_instance_uid,
            }
            for one in uploaded.files
        ],
        "error": None if failure is None else {"code": failure.code, "detail": str(failure)},
    }
    return _closed_after(uploaded, JSONResponse(body, status_code=int(status_of_upload(uploaded))))


def _closed_after(uploaded: Uploaded, response: Response) -> Response:
    """Close the connection after the answer if the rest of the body was not read."""
    if uploaded.failure is not None:
        response.headers["Connection"] = "close"
    return response

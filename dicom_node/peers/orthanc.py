"""Show the state of a study in an Orthanc, through its REST API: as metadata, and as a label if it has labels.

What was shown before is taken away first, so that an Orthanc that fails in between shows no state rather than an
earlier one. Whether there are labels is what ``/system`` says: earlier versions ignore a filter by label and return
every study, so labels are only ever set, and no study is selected by one.
"""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

import httpx

from dicom_node.peers.errors import (
    DeliveryError,
    HttpFailedForNowError,
    MetadataUnknownError,
    PeerTimeoutError,
    QueryUnreadableError,
    StudyNotThereError,
)
from dicom_node.peers.notice import WITHDRAWN, StudyNotice
from dicom_node.peers.web_client import WebClient, environment_value, error_of_status, read_body
from dicom_node.settings import OrthancTarget

ANSWER_S = 10.0  # for each request
MAX_ANSWER_BYTES = 2**20
LABELLED_STATES = ("open", "blocked", "review", "cleared", "held")


def show_state(target: OrthancTarget, notice: StudyNotice, *, within_s: float) -> None:
    """Show the state of a study in all studies of Orthanc that have its UID; show none if it is open or held.

    Raises
    ------
    StudyNotThereError
        Orthanc has no such study, so there is nothing that could show the state.
    DeliveryError
        Orthanc did not do it within ``within_s``.
    """
    with _Orthanc(target, ends_at=time.monotonic() + within_s) as orthanc:
        has_labels = orthanc.has_labels()
        studies = orthanc.studies(notice.study_instance_uid)
        if notice.state in WITHDRAWN:
            wanted = None
        elif not studies:
            raise StudyNotThereError(target.name, notice.study_instance_uid)
        else:
            wanted = notice.state
        for study in studies:
            orthanc.take_state_away(study, has_labels=has_labels)
        for study in studies if wanted is not None else ():
            try:
                orthanc.set_state(study, str(wanted), has_labels=has_labels)
            except _MissingError as error:
                if study in orthanc.studies(notice.study_instance_uid):
                    raise MetadataUnknownError(target.name, str(target.metadata)) from error
                raise StudyNotThereError(target.name, notice.study_instance_uid) from error


class _MissingError(Exception):
    """Orthanc answered 404."""


class _Orthanc:
    """Calls to one Orthanc, all together within a time."""

    def __init__(self, target: OrthancTarget, *, ends_at: float) -> None:
        self._target = target
        self._ends_at = ends_at
        auth = None
        if target.user is not None:
            password = "" if target.password_env is None else environment_value(target.name, target.password_env)
            auth = httpx.BasicAuth(target.user, password)
        self._client = WebClient(target, timeout_s=ANSWER_S, auth=auth)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def has_labels(self) -> bool:
        """Whether this Orthanc has labels (since 1.12.0)."""
        system = self._get("system")
        return isinstance(system, dict) and system.get("HasLabels") is True

    def studies(self, study_instance_uid: str) -> list[str]:
        """Return Orthanc's identifiers of the studies with a UID; different patients with one UID are several."""
        body = self._call("POST", "tools/lookup", content=study_instance_uid.encode())[1]
        found = self._json(body)
        if not isinstance(found, list) or not all(isinstance(hit, dict) for hit in found):
            raise QueryUnreadableError(self._target.name, "a list of hits that is none")
        return [str(hit.get("ID")) for hit in found if hit.get("Type") == "Study"]

    def take_state_away(self, study: str, *, has_labels: bool) -> None:
        """Delete the metadata and all our labels of a study."""
        metadata = self._metadata(study)
        try:
            revision = self._call("GET", metadata)[0].get("ETag")
        except _MissingError:
            pass
        else:
            # With CheckRevisions, Orthanc deletes only for somebody who knows what is deleted.
            self._delete(metadata, {} if revision is None else {"If-Match": revision})
        if has_labels:
            labels = self._get(f"studies/{quote(study)}/labels")
            for label in [self._label(state) for state in LABELLED_STATES]:
                if isinstance(labels, list) and label in labels:
                    self._delete(f"studies/{quote(study)}/labels/{label}", {})

    def set_state(self, study: str, state: str, *, has_labels: bool) -> None:
        """Set metadata and label."""
        self._call("PUT", self._metadata(study), content=state.encode())
        if has_labels:
            self._call("PUT", f"studies/{quote(study)}/labels/{self._label(state)}", content=b"")

    def _label(self, state: str) -> str:
        return f"{self._target.label_prefix}-{state}"

    def _metadata(self, study: str) -> str:
        return f"studies/{quote(study)}/metadata/{self._target.metadata}"

    def _get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        try:
            return self._json(self._call("GET", path)[1])
        except _MissingError:
            return None

    def _delete(self, path: str, headers: dict[str, str]) -> None:
        try:
            self._call("DELETE", path, headers=headers)
        except _MissingError:  # somebody else was faster
            return

    def _call(
        self, method: str, path: str, *, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[httpx.Headers, bytes]:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise PeerTimeoutError(self._target.name, "end of the calls that show a state", ANSWER_S)
        with self._client.request(
            method, path, content=content, headers=headers, deadline_s=min(ANSWER_S, left_s)
        ) as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise _MissingError(path)
            if not response.is_success:
                raise self._error(response)
            body = read_body(response, max_bytes=MAX_ANSWER_BYTES)
        if body is None:
            raise QueryUnreadableError(self._target.name, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return response.headers, body

    def _error(self, response: httpx.Response) -> DeliveryError:
        if response.status_code == HTTPStatus.CONFLICT:  # another program changed the metadata meanwhile
            return HttpFailedForNowError(self._target.name, response.status_code, str(response.request.url))
        return error_of_status(self._target, response)

    def _json(self, body: bytes) -> Any:  # noqa: ANN401
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise QueryUnreadableError(self._target.name, "an answer that is not JSON") from error

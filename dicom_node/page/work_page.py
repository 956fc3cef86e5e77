"""Work: what the node does, what failed and what to do about it; retry and cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.gate.documents import Terms
from dicom_node.page.actions import act_on_delivery, act_on_job, actor_of, row_number
from dicom_node.page.rendering import Renderer
from dicom_node.page.work_state import ReadModels, read_work
from dicom_node.settings import Settings
from dicom_node.store import Store


class WorkPage:
    """``/work``."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        terms: Callable[[], Terms],
        renderer: Renderer,
        read_models: ReadModels,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._settings = settings
        self._terms = terms
        self._renderer = renderer
        self._read_models = read_models
        self._clock = clock

    def show(self, request: Request) -> Response:
        """Return the whole page."""
        return self._html(request, "work.html")

    def now(self, request: Request) -> Response:
        """Return what changes, for a page that is open."""
        return self._html(request, "work_now.html")

    def act_on_job(self, request: Request, _: Mapping[str, str]) -> Response:
        """``POST /work/jobs/{job}/retry`` or ``cancel``."""
        number = row_number("job", request.path_params["job"])
        act_on_job(
            self._store, self._terms(), number, request.path_params["action"], self._clock(), by=actor_of(request)
        )
        return self._back()

    def act_on_delivery(self, request: Request, _: Mapping[str, str]) -> Response:
        """``POST /work/deliveries/{delivery}/retry`` or ``cancel``."""
        number = row_number("delivery", request.path_params["delivery"])
        act_on_delivery(self._store, number, request.path_params["action"], self._clock(), by=actor_of(request))
        return self._back()

    def _back(self) -> Response:
        return RedirectResponse(f"{self._renderer.base}/work", status_code=303)

    def _html(self, request: Request, template: str) -> Response:
        work = read_work(self._store, self._settings, self._read_models)
        return self._renderer.html(request, template, work=work, now=self._clock())

"""Which page answers which path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.routing import Route

from dicom_node.access.gatekeeper import Gatekeeper
from dicom_node.access.refusals import Refusals
from dicom_node.gate.documents import Terms
from dicom_node.http_intake.limits import StoreLimits
from dicom_node.page.answers import Answers
from dicom_node.page.api import Api
from dicom_node.page.assets import send_asset
from dicom_node.page.picture_routes import picture_sender
from dicom_node.page.pictures import Pictures
from dicom_node.page.protection import Protection
from dicom_node.page.rendering import Renderer
from dicom_node.page.review_page import ReviewPage
from dicom_node.page.sign_in_page import SignInPage
from dicom_node.page.studies_page import StudiesPage
from dicom_node.page.study_page import StudyPage
from dicom_node.page.upload_page import UploadPage, wants_json
from dicom_node.page.uploading.receiving import Uploads
from dicom_node.page.work_page import WorkPage
from dicom_node.page.work_state import ReadModels
from dicom_node.settings import Settings
from dicom_node.store import Store


def page_routes(
    store: Store,
    settings: Settings,
    terms: Callable[[], Terms],
    *,
    gatekeeper: Gatekeeper | None = None,
    read_models: ReadModels = tuple,
    uploading: StoreLimits | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Route]:
    """Return the routes of all pages, for the application that serves them.

    Parameters
    ----------
    terms
        Returns the rules for studies and the pipeline that the node has now.
    gatekeeper
        Of the application; people see its refusals as pages, and can sign in.
    read_models
        Returns what identifies the models that the node has now; raises if they cannot be described.
    uploading
        Bounds of uploads; None if nobody may upload.
    """
    public_url = None if settings.web.public_url is None else str(settings.web.public_url)
    protection = Protection(public_url, settings.web.host_names)
    renderer = Renderer(
        protection,
        ae_title=settings.node.ae_title,
        public_url=public_url,
        viewer_url=settings.web.viewer_url,
        may_upload=uploading is not None,
    )
    answers = Answers(renderer, protection, Refusals(store, clock))
    studies, study = StudiesPage(store, terms, renderer), StudyPage(store, terms, renderer, clock)
    pictures = Pictures(store)
    review = ReviewPage(store, terms, renderer, pictures, clock)
    work = WorkPage(store, settings, terms, renderer, read_models, clock)
    uploads = Uploads(store, uploading, protection, clock)
    upload = UploadPage(uploads, renderer)
    api = Api(store, settings, terms, read_models, clock)
    return [
        *_sign_in_routes(gatekeeper, answers, renderer, protection),
        answers.show("/", studies.show),
        answers.show("/studies", studies.show),
        answers.show("/studies/counts", studies.counts),
        answers.show("/studies/{study}", study.show),
        answers.act("/studies/{study}/decide", study.decide),
        answers.show("/review", review.next),
        answers.show("/review/warm", review.warm),
        answers.show("/review/{study}", review.show),
        answers.act("/review/{study}/decide", review.decide),
        answers.show("/work", work.show),
        answers.show("/work/now", work.now),
        answers.act("/work/jobs/{job}/{action}", work.act_on_job),
        answers.act("/work/deliveries/{delivery}/{action}", work.act_on_delivery),
        answers.show("/upload", upload.show),
        answers.take("/upload", upload.receive, wants_json),
        answers.take("/api/upload", upload.receive_body, lambda _: True),
        answers.show("/series/{series}/pictures/{stack}/{name}", picture_sender(pictures)),
        answers.read("/api/openapi.json", api.schema),
        answers.read("/api/work", api.work),
        answers.read("/api/jobs", api.jobs),
        answers.read("/api/jobs/{job}", api.job),
        answers.post("/api/jobs/{job}/{action}", api.act_on_job),
        answers.read("/api/deliveries", api.deliveries),
        answers.post("/api/deliveries/{delivery}/{action}", api.act_on_delivery),
        answers.post("/api/studies/{study}/decisions", api.decide),
        answers.show("/assets/{name:path}", send_asset),
    ]


def _sign_in_routes(
    gatekeeper: Gatekeeper | None, answers: Answers, renderer: Renderer, protection: Protection
) -> list[Route]:
    if gatekeeper is None or gatekeeper.identifier is None:
        return []
    page = SignInPage(gatekeeper.identifier, renderer, protection)
    gatekeeper.show = page.show_refusal
    return [
        answers.show("/sign-in", page.show),
        answers.act("/sign-in", page.sign_in),
        *(
            ()
            if gatekeeper.identifier.provider is None
            else (
                answers.show("/sign-in/oidc", page.leave),
                answers.show("/sign-in/callback", page.come_back),
                answers.show("/sign-in/end", page.end),
            )
        ),
        answers.act("/sign-out", page.sign_out),
    ]

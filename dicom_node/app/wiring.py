"""Objects from settings, for every process of the node and for its commands.

What only some of them need is imported when it is asked for: the receiver should not carry PyTorch in its memory.
"""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dicom_node.errors import NodeError
from dicom_node.logs import RepeatedFailure
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.settings import Settings
from dicom_node.store import S3Place, Store
from dicom_node.store.permissions import mode_open_to_others

if TYPE_CHECKING:
    from dicom_node.access.gatekeeper import Gatekeeper
    from dicom_node.access.oidc import OidcProvider
    from dicom_node.dicomweb import StoreLimits
    from dicom_node.gate.live_terms import LiveTerms
    from inference.models import ModelSpec

log = logging.getLogger(__name__)


def system_user() -> str:
    """Return the name of the user as whom this process runs."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def utc_now() -> datetime:
    """The moment, as the store wants it."""
    return datetime.now(UTC)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store.open(
        settings.node.data_dir,
        url=settings.node.database_url,
        min_free_bytes=settings.dimse.min_free_bytes,
        objects_at=objects_place(settings),
    )


def check_objects(settings: Settings, store: Store) -> None:
    """Raise an error if index and objects do not belong together, unless the settings say that objects are lost.

    Raises
    ------
    IndexElsewhereError, ObjectsElsewhereError
        The index is new and there are objects; the index names objects that are not there.
    """
    store.check_same_index()
    if not settings.node.objects_are_lost:
        store.check_same_objects()


def objects_place(settings: Settings) -> S3Place | None:
    """Return the bucket that the settings name; None means a folder in ``data_dir``."""
    return None if settings.node.objects_url is None else bucket_place(settings, settings.node.objects_url)


def bucket_place(settings: Settings, url: str) -> S3Place:
    """Return a bucket that is reached as the section ``objects`` says; raise `ObjectsUrlError` if the URL is wrong."""
    own = settings.objects
    return S3Place.from_url(
        url,
        endpoint_url=None if own.endpoint_url is None else str(own.endpoint_url).rstrip("/"),
        region=own.region,
        path_style=own.path_style,
        ca_file=own.ca_file,
        cache_bytes=own.cache_bytes,
        timeout_s=own.timeout_s,
    )


def read_rules(settings: Settings) -> Rules:
    """The rules that the settings name, with peers that exist."""
    return load_rules(settings.rules, peer_names=[peer.name for peer in settings.peers])


def read_models(settings: Settings) -> tuple[ModelSpec, ModelSpec]:
    """Descriptions of the two models, foreground first; nothing is loaded."""
    from inference.models import read_model_spec, reference_model

    folders = {"foreground": settings.models.foreground, "anonymized": settings.models.anonymized}
    foreground, anonymized = (
        reference_model(role) if folder is None else read_model_spec(folder) for role, folder in folders.items()
    )
    return foreground, anonymized


def model_identities(settings: Settings) -> tuple[dict[str, str], ...]:
    """Return role, name, version and digest of the two models; nothing is loaded."""
    return tuple(asdict(model.identity) for model in read_models(settings))


def current_pipeline_digest(settings: Settings) -> str:
    """Digest of the pipeline that a node with these settings starts with; no model is loaded."""
    from dicom_node.pipeline_digest import pipeline_digest

    return pipeline_digest([model.identity for model in read_models(settings)], read_rules(settings).digest)


def check_tls(settings: Settings) -> None:
    """Load all keys and certificates for TLS, as the node will.

    Raises
    ------
    TlsFilesError
        One is missing or cannot be used.
    """
    from dicom_node.dimse.tls import listening_context
    from dicom_node.peers.tls import calling_files
    from dicom_node.upper_layer.tls.contexts import requestor_context

    listening_context(settings.dimse.tls)
    for peer in settings.peers:
        if peer.kind == "dimse" and peer.tls is not None:
            requestor_context(calling_files(peer, peer.tls))


def data_dir_warnings(settings: Settings) -> list[str]:
    """Sentences on a data directory that works, but should not stay as it is; what to do is in them."""
    data_dir = settings.node.data_dir
    mode = mode_open_to_others(data_dir)
    if mode is None:
        return []
    who = "every user of this machine may look for images and patients in it"
    return [f"node.data_dir: {data_dir} has mode {mode}, so {who}; 0750 is right: chmod o= {data_dir}"]


def commitment_peers(settings: Settings) -> dict[str, list[str]]:
    """AE title → names of the peers with it; they may report on requests, also on those from before a change."""
    found: dict[str, list[str]] = {}
    for peer in settings.peers:
        if peer.kind == "dimse" and peer.may_report:
            found.setdefault(peer.ae_title, []).append(peer.name)
    return found


def web_gatekeeper(settings: Settings, store: Store, *, clock: Callable[[], datetime] | None = None) -> Gatekeeper:
    """Return what stands before the routes of the web server; ``clock`` is the store's, unless a test has its own."""
    from dicom_node.access.gatekeeper import Gatekeeper
    from dicom_node.access.identify import Identifier
    from dicom_node.access.origins import Origins

    web = settings.web
    origins = Origins(None if web.public_url is None else str(web.public_url), web.host_names)
    if web.access not in ("tokens", "oidc"):
        return Gatekeeper(origins)
    provider = oidc_provider(settings) if web.access == "oidc" else None
    identifier = Identifier(
        store,
        provider=provider,
        session_hours=web.session_hours,
        max_requests_per_minute=web.max_requests_per_minute,
        clock=clock or store.now,
    )
    return Gatekeeper(origins, identifier)


def oidc_provider(settings: Settings) -> OidcProvider:
    """Return the OpenID Connect provider that the settings name; nothing is asked yet."""
    from dicom_node.access.errors import OidcMissingError

    try:
        from dicom_node.access.oidc import OidcProvider
    except ImportError as error:
        raise OidcMissingError(str(error.name)) from error
    return OidcProvider(settings.oidc)


def upload_limits(settings: Settings) -> StoreLimits | None:
    """Return the bounds of uploads; None if they are off."""
    return _intake_limits(settings) if settings.web.upload else None


def store_limits(settings: Settings) -> StoreLimits | None:
    """Return the bounds of what comes by STOW-RS; None if it is off."""
    return _intake_limits(settings) if settings.web.stow else None


def _intake_limits(settings: Settings) -> StoreLimits:
    from dicom_node.dicomweb import StoreLimits

    return StoreLimits(
        max_object_bytes=settings.dimse.max_object_bytes,
        max_request_bytes=settings.web.max_request_bytes,
        max_requests=settings.web.max_store_requests,
        receive_timeout_s=settings.web.receive_timeout_s,
        accept_unknown_uids=settings.dimse.accept_unknown_uids,
    )


def live_terms(settings: Settings) -> LiveTerms:
    """Return the rules and the pipeline for states of studies, read again when files may have changed.

    Without models, or with rules that cannot be used, every study that is not held is open: it is not exported either.
    """
    from dicom_node.gate.documents import Terms
    from dicom_node.gate.live_terms import LiveTerms
    from dicom_node.gate.rules import StudyRules
    from inference.errors import InferenceError

    read_rules(settings)  # a start with rules that cannot be used is refused
    failure = RepeatedFailure(log, "no rules or models; studies are shown as open", "rules and models are read again")

    def read() -> Terms:
        try:
            rules = read_rules(settings).study
        except NodeError as error:
            failure.failed(error)
            return Terms(StudyRules(), None)
        try:
            terms = Terms(rules, current_pipeline_digest(settings))
        except InferenceError as error:
            failure.failed(error)
            return Terms(rules, None)
        failure.worked()
        return terms

    return LiveTerms(read)

"""Composition root: settings become wired objects and running processes. The one module that knows every room.

What only one process needs is imported in that process: the receiver should not carry PyTorch in its memory.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import NodeError
from dicom_node.failures import ErrorKind, classify, error_code, network_reason
from dicom_node.logs import RepeatedFailure, log_failure, set_up_logging
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.processes import ProcessSpec, command_line, end_with_supervisor, stop_on_signals, supervise
from dicom_node.settings import Settings
from dicom_node.store import PARTS, IndexUnavailableError, Part, S3Place, Store, Trouble, intake_trouble
from dicom_node.store.permissions import UMASK, mode_open_to_others

if TYPE_CHECKING:
    from dicom_node.access.gatekeeper import Gatekeeper
    from dicom_node.access.oidc import OidcProvider
    from dicom_node.dicomweb import Administrators, StoreLimits
    from dicom_node.dimse.query.policy import QueryRetrieve
    from dicom_node.engines import Engine
    from dicom_node.gate.live_terms import LiveTerms
    from dicom_node.pipeline.worker import Worker
    from dicom_node.store import GateTerms
    from inference.models import ModelSpec

log = logging.getLogger(__name__)

WATCH_S = 5.0  # between two looks at whether instances can be kept
PROVIDER_WATCH_S = 60.0  # between two looks at whether people can sign in
WORK_STOP_S = 10.0
INDEX_WAIT_S = 2.0
HOUSE_S = 30.0  # between two looks at objects in a shared store


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


def objects_place(settings: Settings) -> S3Place | None:
    """Return the bucket that the settings name; None means a folder in ``data_dir``."""
    if settings.node.objects_url is None:
        return None
    own = settings.objects
    return S3Place.from_url(
        settings.node.objects_url,
        endpoint_url=None if own.endpoint_url is None else str(own.endpoint_url).rstrip("/"),
        region=own.region,
        path_style=own.path_style,
        ca_file=own.ca_file,
        cache_bytes=own.cache_bytes,
        timeout_s=own.timeout_s,
    )


@contextmanager
def awaited_store(settings: Settings, stopping: threading.Event, part: Part) -> Iterator[Store | None]:
    """The store as soon as its database answers; None when the process is to stop before that."""
    while not stopping.is_set():
        try:
            store = open_store(settings)
        except IndexUnavailableError as error:
            log_failure(log, "no index yet; asked again", error, wait_s=INDEX_WAIT_S)
            part.note(Trouble(part.name, error_code(error), str(error), utc_now()))
            stopping.wait(INDEX_WAIT_S)
        else:
            with store, _kept_house(store):
                yield store
            return
    yield None


@contextmanager
def _kept_house(store: Store) -> Iterator[None]:
    """Look after objects in a shared store within the block, in a thread of its own; local ones need nothing."""
    if store.objects.is_local:
        yield
        return
    ending = threading.Event()
    failure = RepeatedFailure(log, "objects are not tidied", "objects are tidied again")

    def keep_house() -> None:
        while not ending.is_set():
            try:
                store.keep_house()
            except NodeError as error:
                failure.failed(error)
            else:
                failure.worked()
            ending.wait(HOUSE_S)

    thread = threading.Thread(target=keep_house, name="keep-house", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(INDEX_WAIT_S)


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


def serve(settings: Settings, config_path: Path | None) -> int:
    """Run the whole node until SIGTERM or SIGINT, each of its `PARTS` in a process of its own.

    A worker whose models cannot be used is started again and again; the other parts go on meanwhile.

    Raises
    ------
    dicom_node.errors.NodeError
        The rules cannot be used, or somebody else holds the data directory; nothing was started.
    """
    _enter_process("serve", settings)
    from dicom_node.engines import check_engine

    read_rules(settings)
    check_tls(settings)
    check_engine(settings)
    arguments = () if config_path is None else ("--config", str(config_path.absolute()))
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with Store.lock(settings.node.data_dir, "serve"):
        for problem in data_dir_warnings(settings):
            log.warning(problem)
        open_store(settings).close()  # migrate once, before several processes want to
        specs = [ProcessSpec(name, command_line(name, *arguments), is_needed=name != "work") for name in PARTS]
        return supervise(specs, stopping)


def run_receive(settings: Settings) -> int:
    """Take instances from DIMSE until SIGTERM or SIGINT."""
    from dicom_node.dimse import DimseServer

    stopping = threading.Event()
    with _running_part("receive", settings, stopping) as part, awaited_store(settings, stopping, part) as store:
        if store is None:
            return 0
        server = DimseServer(
            store,
            settings.dimse,
            ae_title=settings.node.ae_title,
            peers=[peer for peer in settings.peers if peer.kind == "dimse"],
            commitment_peers=commitment_peers(settings),
            query_retrieve=_query_retrieve(settings),
            clock=store.now,
        )
        with server:
            part.ready()
            log.info("ready", extra={"host": settings.dimse.host})
            _watch_intake(store, part, stopping)
            log.info("stopping")
    return 0


def _query_retrieve(settings: Settings) -> QueryRetrieve:
    """Return who may query and retrieve, with the rules and the pipeline by which studies have a state."""
    from dicom_node.dicomweb.decoding_budget import DecodingBudget
    from dicom_node.dicomweb.transcoding import explicit_little_endian
    from dicom_node.dimse.query.policy import QueryRetrieve

    decompress = partial(explicit_little_endian, budget=DecodingBudget(settings.web.decoding_bytes), is_first=False)
    peers = [peer for peer in settings.peers if peer.kind == "dimse"]
    return QueryRetrieve(settings.node.ae_title, settings.query_retrieve, peers, _index_terms(settings), decompress)


def _index_terms(settings: Settings) -> Callable[[], GateTerms] | None:
    """Return a function that reads the present terms; None if the rules cannot be used: instances are kept anyway."""
    try:
        terms = live_terms(settings)
    except NodeError as error:
        log_failure(log, "no rules; C-FIND knows no states of studies", error)
        return None
    return lambda: terms().for_index


def commitment_peers(settings: Settings) -> dict[str, list[str]]:
    """AE title → names of the peers with it; they may report on requests, also on those from before a change."""
    found: dict[str, list[str]] = {}
    for peer in settings.peers:
        if peer.kind == "dimse" and peer.may_report:
            found.setdefault(peer.ae_title, []).append(peer.name)
    return found


def _watch_intake(store: Store, part: Part, stopping: threading.Event) -> None:
    """Say what keeps instances from being kept, for `status` and the web server, until ``stopping``."""
    while True:
        trouble = intake_trouble(store, utc_now())
        before = part.trouble
        if part.note(trouble):
            if trouble is not None:
                log.error(trouble.message, extra={"code": trouble.code})
            elif before is not None:
                log.info("instances are accepted again", extra={"code": before.code})
        if stopping.wait(WATCH_S):
            return


def run_web(settings: Settings) -> int:
    """Serve DICOMweb, health and metrics until SIGTERM or SIGINT."""
    from dicom_node.certificates import Certificates
    from dicom_node.dicomweb import BoundedServer, build_app
    from dicom_node.page import page_routes

    stopping = threading.Event()
    with (
        _running_part("web", settings, stopping) as part,
        awaited_store(settings, stopping, part) as store,
        _listen(settings.web.host, settings.web.port) as listener,
    ):
        if store is None:
            return 0
        public_url = None if settings.web.public_url is None else str(settings.web.public_url)
        terms = live_terms(settings)
        gatekeeper = web_gatekeeper(settings, store)
        web_app = build_app(
            store,
            terms=terms,
            decoding_bytes=settings.web.decoding_bytes,
            public_url=public_url,
            more_routes=page_routes(
                store,
                settings,
                terms,
                gatekeeper=gatekeeper,
                read_models=partial(model_identities, settings),
                uploading=upload_limits(settings),
                clock=store.now,
            )
            if settings.web.page
            else (),
            storing=store_limits(settings),
            cors_origins=settings.web.cors_origins,
            browser_cache=settings.web.browser_cache,
            administrators=_administrators(settings),
            gatekeeper=gatekeeper,
            certificates=Certificates(settings).facts,
            read_models=partial(model_identities, settings),
        )
        server = BoundedServer(web_app, settings.web)
        # Once it runs, uvicorn takes signals itself, and raises them again when it is done: they come here then.
        stop_on_signals(lambda: setattr(server, "should_exit", True))
        if stopping.is_set():  # a signal came before that
            server.should_exit = True
        part.ready()
        log.info("ready", extra={"host": settings.web.host, "port": listener.getsockname()[1]})
        with _watched_provider(gatekeeper, part):
            server.run(sockets=[listener])
    return 0


@contextmanager
def _watched_provider(gatekeeper: Gatekeeper, part: Part) -> Iterator[None]:
    """Ask the OpenID Connect provider every minute, and say in the log and to `status` while it cannot be asked."""
    from dicom_node.access.errors import ProviderError

    provider = None if gatekeeper.identifier is None else gatekeeper.identifier.provider
    if provider is None:
        yield
        return
    failure = RepeatedFailure(log, "nobody can sign in by the provider", "people can sign in by the provider again")
    ending = threading.Event()

    def watch() -> None:
        while True:
            try:
                provider.check()
            except ProviderError as error:
                failure.failed(error)
                part.note(Trouble("oidc", error.code, str(error), utc_now()))
            else:
                failure.worked()
                part.note(None)
            if ending.wait(PROVIDER_WATCH_S):
                return

    thread = threading.Thread(target=watch, name="provider", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()


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
    identifier = Identifier(store, provider=provider, session_hours=web.session_hours, clock=clock or store.now)
    return Gatekeeper(origins, identifier)


def oidc_provider(settings: Settings) -> OidcProvider:
    """Return the OpenID Connect provider that the settings name; nothing is asked yet."""
    from dicom_node.access.errors import OidcMissingError

    try:
        from dicom_node.access.oidc import OidcProvider
    except ImportError as error:
        raise OidcMissingError(str(error.name)) from error
    return OidcProvider(settings.oidc)


def _administrators(settings: Settings) -> Administrators | None:
    """Return who may delete results over DICOMweb; None for nobody."""
    from dicom_node.dicomweb import Administrators

    web = settings.web
    return Administrators(web.user_header, web.administrators) if web.administrators else None


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


def _listen(host: str, port: int) -> socket.socket:
    """Socket for HTTP; `ListenError` names the address that cannot be bound."""
    from dicom_node.dicomweb.errors import ListenError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(host, port, network_reason(error)) from error


def run_schedule(settings: Settings) -> int:
    """Complete and route series, deliver results, delete by retention, until SIGTERM or SIGINT; no model is loaded."""
    from dicom_node.pipeline.clock import Clock
    from dicom_node.pipeline.delivery import warn_about_strays
    from dicom_node.pipeline.schedule import Schedule
    from dicom_node.settings_record import record_settings

    stopping = threading.Event()
    with _running_part("schedule", settings, stopping) as part:
        rules = read_rules(settings)
        with awaited_store(settings, stopping, part) as store:
            if store is None:
                return 0
            warn_about_strays(store, [peer.name for peer in settings.peers])
            record_settings(store, settings, host=socket.gethostname(), by=system_user(), now=store.now())
            schedule = Schedule(
                store, settings, rules, partial(current_pipeline_digest, settings), _owner(), clock=store.now
            )
            _leave_in_time(stopping, part.end)
            with Clock(schedule.ticks(must_stop=stopping.is_set)), _metadata_ahead(settings, store):
                part.ready()
                log.info("ready")
                stopping.wait()
                log.info("stopping")
    return 0


def _metadata_ahead(settings: Settings, store: Store) -> AbstractContextManager[object]:
    """Compute metadata for viewers ahead within the block, if the settings say so."""
    if not settings.web.metadata_ahead:
        return nullcontext()
    from dicom_node.dicomweb.metadata_ahead import MetadataAhead

    return MetadataAhead(store, store.now)


def run_work(settings: Settings) -> int:
    """Run the models on complete series until SIGTERM or SIGINT."""
    stopping = threading.Event()
    with _running_part("work", settings, stopping) as part:
        _work(settings, part, stopping)
    return 0


def _work(settings: Settings, part: Part, stopping: threading.Event) -> None:
    """Load the models and work; importing PyTorch takes seconds, in which the part is known to start."""
    from dicom_node.engines import open_engine
    from dicom_node.pipeline_digest import pipeline_digest

    rules = read_rules(settings)
    with open_engine(settings, read_models(settings)) as engine:
        digest = pipeline_digest(engine.identities, rules.digest)
        with awaited_store(settings, stopping, part) as store:
            if store is None:
                return
            others = [Store.announce(settings.node.data_dir, "work", utc_now()) for _ in range(engine.n_jobs - 1)]
            workers = [_worker(settings, store, engine, rules, digest, each) for each in (part, *others)]
            _leave_in_time(stopping, *(one.give_back for one in workers), *(one.end for one in (part, *others)))
            for each in (part, *others):
                each.ready(pipeline_digest=digest)
            log.info("ready", extra={"pipeline_digest": digest})
            first, *more = workers
            threads = [threading.Thread(target=one.run, args=(stopping,), daemon=True) for one in more]
            for thread in threads:
                thread.start()
            first.run(stopping)
            for thread in threads:
                thread.join()
            for each in others:
                each.end()
            log.info("stopping")


def _worker(settings: Settings, store: Store, engine: Engine, rules: Rules, digest: str, part: Part) -> Worker:
    """Return a worker that does one job at a time, and says so as a part of the node."""
    from dicom_node.pipeline.retry import RetryPolicy
    from dicom_node.pipeline.worker import Worker, WorkerSettings

    return Worker(
        store,
        engine.process,
        WorkerSettings(
            owner=_owner(),
            study_rules=rules.study,
            pipeline_digest=digest,
            retry=RetryPolicy(settings.work.max_attempts, settings.work.backoff_s),
            lease_s=settings.work.lease_s,
            kinds_by_peer={peer.name: frozenset(peer.results) for peer in settings.peers},
            report=part.note_task,
            may_claim=engine.may_claim,
        ),
        clock=store.now,
    )


def _leave_in_time(stopping: threading.Event, *last_steps: Callable[[], object]) -> None:
    """End this process soon after ``stopping``, even while a model runs or a delivery takes minutes.

    Parameters
    ----------
    last_steps
        Called before the process is ended by force; exceptions are logged.
    """

    def leave() -> None:
        stopping.wait()
        time.sleep(WORK_STOP_S)
        for step in last_steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the process ends in any case
                log_failure(log, "a step of the shutdown failed", error)
        log.warning("work still running at the end of the grace period; stopping without it")
        os._exit(0)

    threading.Thread(target=leave, name="leave-in-time", daemon=True).start()


def _owner() -> str:
    """Return a name for the leases of this process that no other process has."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


@contextmanager
def _running_part(name: str, settings: Settings, stopping: threading.Event) -> Iterator[Part]:
    """Be a part of the node for the time of the block, known as such to `status`; signals set ``stopping``."""
    _enter_process(name, settings)
    stop_on_signals(stopping.set)
    part = Store.announce(settings.node.data_dir, name, utc_now())
    try:
        yield part
    except Exception as error:
        is_defect = classify(error) is ErrorKind.DEFECT
        message = f"{type(error).__name__}, a defect of the node; see its log" if is_defect else str(error)
        part.end(Trouble(name, error_code(error), message, utc_now()))
        raise
    part.end()


def _enter_process(name: str, settings: Settings) -> None:
    os.umask(UMASK)
    set_up_logging(settings.log, process_name=name)
    end_with_supervisor()

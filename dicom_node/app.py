"""Composition root: settings become wired objects and running processes. The one module that knows every room.

What only one process needs is imported in that process: the receiver should not carry PyTorch in its memory.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.failures import network_reason
from dicom_node.logs import log_failure, set_up_logging
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.processes import ProcessSpec, command_line, end_with_supervisor, stop_on_signals, supervise
from dicom_node.settings import Peer, Settings
from dicom_node.store import IndexUnavailableError, Store
from dicom_node.store.permissions import UMASK, mode_open_to_others

if TYPE_CHECKING:
    from dicom_node.pipeline.clock import Tick
    from dicom_node.pipeline.worker import Worker
    from inference.models import ModelSpec

log = logging.getLogger(__name__)

MAX_TICK_S = 5.0
STUDY_TICK_S = 30.0
RETENTION_TICK_S = 3600.0
DELIVERY_TICK_S = 2.0
TICKS_PER_PERIOD = 4  # how often a period in the settings is looked at before it is over
WORK_STOP_S = 10.0
INDEX_WAIT_S = 2.0


def utc_now() -> datetime:
    """The moment, as the store wants it."""
    return datetime.now(UTC)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store.open(
        settings.node.data_dir, url=settings.node.database_url, min_free_bytes=settings.dimse.min_free_bytes
    )


@contextmanager
def awaited_store(settings: Settings, stopping: threading.Event) -> Iterator[Store | None]:
    """The store as soon as its database answers; None when the process is to stop before that."""
    while not stopping.is_set():
        try:
            store = open_store(settings)
        except IndexUnavailableError as error:
            log_failure(log, "no index yet; asked again", error, wait_s=INDEX_WAIT_S)
            stopping.wait(INDEX_WAIT_S)
        else:
            with store:
                yield store
            return
    yield None


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


def current_pipeline_digest(settings: Settings) -> str:
    """Digest of the pipeline that a node with these settings starts with; no model is loaded."""
    from dicom_node.pipeline_digest import pipeline_digest

    return pipeline_digest([model.identity for model in read_models(settings)], read_rules(settings).digest)


def data_dir_warnings(settings: Settings) -> list[str]:
    """Sentences on a data directory that works, but should not stay as it is; what to do is in them."""
    data_dir = settings.node.data_dir
    mode = mode_open_to_others(data_dir)
    if mode is None:
        return []
    who = "every user of this machine may look for images and patients in it"
    return [f"node.data_dir: {data_dir} has mode {mode}, so {who}; 0750 is right: chmod o= {data_dir}"]


def serve(settings: Settings, config_path: Path | None) -> int:
    """Run the whole node until SIGTERM or SIGINT: receiver, web server and worker, each in a process of its own.

    Raises
    ------
    dicom_node.errors.NodeError
        The rules cannot be used, or somebody else holds the data directory; nothing was started.
    """
    _enter_process("serve", settings)
    read_rules(settings)  # the models are looked at in `work`: this process shall not carry PyTorch
    arguments = () if config_path is None else ("--config", str(config_path.absolute()))
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with Store.lock(settings.node.data_dir, "serve"):
        for problem in data_dir_warnings(settings):
            log.warning(problem)
        open_store(settings).close()  # migrate once, before three processes want to
        specs = [ProcessSpec(name, command_line(name, *arguments)) for name in ("receive", "web", "work")]
        return supervise(specs, stopping)


def run_receive(settings: Settings) -> int:
    """Take instances from DIMSE until SIGTERM or SIGINT."""
    from dicom_node.dimse import DimseServer

    _enter_process("receive", settings)
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with awaited_store(settings, stopping) as store:
        if store is None:
            return 0
        with DimseServer(store, settings.dimse, ae_title=settings.node.ae_title) as server:
            log.info("ready", extra={"host": settings.dimse.host, "port": server.port})
            stopping.wait()
            log.info("stopping")
    return 0


def run_web(settings: Settings) -> int:
    """Serve DICOMweb and health until SIGTERM or SIGINT."""
    from dicom_node.dicomweb import BoundedServer, build_app

    _enter_process("web", settings)
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with awaited_store(settings, stopping) as store, _listen(settings.web.host, settings.web.port) as listener:
        if store is None:
            return 0
        public_url = None if settings.web.public_url is None else str(settings.web.public_url)
        server = BoundedServer(build_app(store, public_url=public_url), settings.web)
        # Once it runs, uvicorn takes signals itself, and raises them again when it is done: they come here then.
        stop_on_signals(lambda: setattr(server, "should_exit", True))
        if stopping.is_set():  # a signal came before that
            server.should_exit = True
        log.info("ready", extra={"host": settings.web.host, "port": listener.getsockname()[1]})
        server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Socket for HTTP; `ListenError` says which address cannot be had."""
    from dicom_node.dicomweb.errors import ListenError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(host, port, network_reason(error)) from error


def run_work(settings: Settings) -> int:
    """Run the models on complete series, and deliver what they found, until SIGTERM or SIGINT."""
    import torch

    from dicom_node.pipeline.clock import Clock
    from dicom_node.pipeline.delivery import warn_about_strays
    from dicom_node.pipeline.retry import RetryPolicy
    from dicom_node.pipeline.worker import Worker, WorkerSettings
    from dicom_node.pipeline_digest import pipeline_digest
    from dicom_node.processing import process_series
    from inference.segment import load_models

    _enter_process("work", settings)
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    rules = read_rules(settings)
    if settings.work.threads is not None:
        torch.set_num_threads(settings.work.threads)
    models = load_models(*read_models(settings), device=settings.work.device)
    digest = pipeline_digest(models.identities, rules.digest)
    owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    with awaited_store(settings, stopping) as store:
        if store is None:
            return 0
        worker = Worker(
            store,
            partial(process_series, models=models),
            WorkerSettings(
                owner=owner,
                rules=rules,
                pipeline_digest=digest,
                deliver_to=settings.deliver_to,
                retry=RetryPolicy(settings.work.max_attempts, settings.work.backoff_s),
                lease_s=settings.work.lease_s,
            ),
            clock=utc_now,
        )
        warn_about_strays(store, [peer.name for peer in settings.peers])
        threading.Thread(target=_leave_in_time, args=(stopping, worker), name="leave-in-time", daemon=True).start()
        with Clock(_ticks(settings, store, rules, stopping, pipeline_digest=digest, owner=owner)):
            log.info("ready", extra={"pipeline_digest": digest})
            worker.run(stopping)
            log.info("stopping")
    return 0


def status(store: Store) -> dict[str, dict[str, int]]:
    """How many series, jobs and deliveries are in which state, and what was kept beside an instance."""
    return {
        "series": {state.value: n for state, n in store.series.counts().items()},
        "jobs": {state.value: n for state, n in store.jobs.counts().items()},
        "deliveries": {state.value: n for state, n in store.deliveries.counts().items()},
        "instances": {"conflicts": store.series.n_conflicts()},
    }


def _leave_in_time(stopping: threading.Event, worker: Worker) -> None:
    """End this process soon after ``stopping``, also from the middle of a network that runs for minutes."""
    stopping.wait()
    time.sleep(WORK_STOP_S)
    worker.give_back()
    log.warning("not finished in time; leaving all the same")
    os._exit(0)


def _ticks(
    settings: Settings, store: Store, rules: Rules, stopping: threading.Event, *, pipeline_digest: str, owner: str
) -> list[Tick]:
    """Everything that the worker's process does by time."""
    from dicom_node.peers import count_instances, deliver
    from dicom_node.pipeline.clock import Tick
    from dicom_node.pipeline.completeness import Patience
    from dicom_node.pipeline.counting import PeerCounts
    from dicom_node.pipeline.delivery import Outbox
    from dicom_node.pipeline.evidence import Witnesses
    from dicom_node.pipeline.intake import complete_quiet_series, judge_open_studies
    from dicom_node.pipeline.leases import expire_leases
    from dicom_node.pipeline.retention import delete_old_sources
    from dicom_node.pipeline.retry import RetryPolicy

    by_name = {peer.name: peer for peer in settings.peers}
    patience = Patience(settings.series.quiet_s, settings.series.max_wait_s)
    witnesses = Witnesses(
        store,
        PeerCounts(
            [by_name[name] for name in settings.series.ask_peers],
            partial(count_instances, calling_ae_title=settings.node.ae_title),
        ),
        quiet_s=patience.quiet_s,
    )

    def complete() -> None:
        complete_quiet_series(
            store, rules, witnesses, pipeline_digest=pipeline_digest, patience=patience, now=utc_now()
        )

    def expire() -> None:
        expire_leases(store, rules.study, max_attempts=settings.work.max_attempts, now=utc_now())

    def retain() -> None:
        delete_old_sources(store, sources_days=settings.retention.sources_days, now=utc_now())

    def outbox(peer: Peer) -> Tick:
        box = Outbox(
            store,
            peer,
            partial(deliver, calling_ae_title=settings.node.ae_title, timeout_s=settings.delivery.timeout_s),
            RetryPolicy(settings.delivery.max_attempts, settings.delivery.backoff_s, settings.delivery.max_backoff_s),
            lease_s=settings.work.lease_s,
            owner=owner,
            clock=utc_now,
        )
        return Tick(f"deliver-{peer.name}", partial(box.deliver_due, must_stop=stopping.is_set), DELIVERY_TICK_S)

    return [
        Tick("quiet-series", complete, _tick_s(settings.series.quiet_s)),
        Tick("open-studies", partial(judge_open_studies, store, rules), STUDY_TICK_S),
        Tick("leases", expire, _tick_s(settings.work.lease_s)),
        Tick("retention", retain, RETENTION_TICK_S),
        *(outbox(peer) for peer in settings.peers),
    ]


def _tick_s(period_s: float) -> float:
    """How often to look for something that happens after ``period_s``."""
    return min(period_s / TICKS_PER_PERIOD, MAX_TICK_S)


def _enter_process(name: str, settings: Settings) -> None:
    os.umask(UMASK)
    set_up_logging(settings.log, process_name=name)
    end_with_supervisor()

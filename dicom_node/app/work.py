"""The worker: the models on complete series."""

from __future__ import annotations

import logging
import threading

from dicom_node.app.part import awaited_store, leave_in_time, owner, running_part
from dicom_node.app.wiring import objects_place, read_models, read_rules, utc_now
from dicom_node.engines import Engine, open_engine
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import Rules
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.pipeline_digest import pipeline_digest
from dicom_node.settings import Settings
from dicom_node.store import Part, Store

log = logging.getLogger(__name__)


def run_work(settings: Settings) -> int:
    """Run the models on complete series until SIGTERM or SIGINT."""
    stopping = threading.Event()
    with running_part("work", settings, stopping) as part:
        _work(settings, part, stopping)
    return 0


def _work(settings: Settings, part: Part, stopping: threading.Event) -> None:
    """Load the models and work; importing PyTorch takes seconds, in which the part is known to start."""
    rules = read_rules(settings)
    with open_engine(settings, read_models(settings), objects_at=objects_place(settings)) as engine:
        digest = pipeline_digest(engine.identities, rules.digest)
        with awaited_store(settings, stopping, part) as store:
            if store is None:
                return
            others = [Store.announce(settings.node.data_dir, "work", utc_now()) for _ in range(engine.n_jobs - 1)]
            workers = [_worker(settings, store, engine, rules, digest, each) for each in (part, *others)]
            leave_in_time(stopping, *(one.give_back for one in workers), *(one.end for one in (part, *others)))
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
    return Worker(
        store,
        engine.process,
        WorkerSettings(
            owner=owner(),
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

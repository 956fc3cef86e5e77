"""The receiver: instances from DIMSE."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from dicom_node.app.part import awaited_store, running_part
from dicom_node.app.wiring import commitment_peers, live_terms, utc_now
from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.transcoding import explicit_little_endian
from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.errors import NodeError
from dicom_node.logs import log_failure
from dicom_node.settings import Settings
from dicom_node.store import GateTerms, Part, Store, intake_trouble

log = logging.getLogger(__name__)

WATCH_S = 5.0  # between two looks at whether instances can be kept


def run_receive(settings: Settings) -> int:
    """Take instances from DIMSE until SIGTERM or SIGINT."""
    stopping = threading.Event()
    with running_part("receive", settings, stopping) as part, awaited_store(settings, stopping, part) as store:
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

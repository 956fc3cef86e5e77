"""The scheduler: series, deliveries and retention by the clock; it loads no model."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from dicom_node.app.part import awaited_store, leave_in_time, owner, running_part
from dicom_node.app.wiring import current_pipeline_digest, read_rules, system_user
from dicom_node.dicomweb.metadata_ahead import MetadataAhead
from dicom_node.pipeline.clock import Clock
from dicom_node.pipeline.delivery import warn_about_strays
from dicom_node.pipeline.schedule import Schedule
from dicom_node.settings import Settings
from dicom_node.settings_record import record_settings
from dicom_node.store import Store

log = logging.getLogger(__name__)


def run_schedule(settings: Settings) -> int:
    """Complete and route series, deliver results, delete by retention, until SIGTERM or SIGINT; no model is loaded."""
    stopping = threading.Event()
    with running_part("schedule", settings, stopping) as part:
        rules = read_rules(settings)
        with awaited_store(settings, stopping, part) as store:
            if store is None:
                return 0
            warn_about_strays(store, [peer.name for peer in settings.peers])
            record_settings(store, settings, host=socket.gethostname(), by=system_user(), now=store.now())
            schedule = Schedule(
                store, settings, rules, partial(current_pipeline_digest, settings), owner(), clock=store.now
            )
            leave_in_time(stopping, part.end)
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

    return MetadataAhead(store, store.now)

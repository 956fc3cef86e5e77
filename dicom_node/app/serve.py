"""The whole node: one process for each part, under a supervisor."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from dicom_node.app.part import enter_process
from dicom_node.app.wiring import check_objects, check_tls, data_dir_warnings, open_store, read_rules
from dicom_node.engines import check_engine
from dicom_node.processes import ProcessSpec, command_line, stop_on_signals, supervise
from dicom_node.settings import Settings
from dicom_node.store import PARTS, Store

log = logging.getLogger(__name__)


def serve(settings: Settings, config_path: Path | None) -> int:
    """Run the whole node until SIGTERM or SIGINT, each of its `PARTS` in a process of its own.

    A worker whose models cannot be used is started again and again; the other parts go on meanwhile.

    Raises
    ------
    dicom_node.errors.NodeError
        The rules cannot be used, or somebody else holds the data directory; nothing was started.
    """
    enter_process("serve", settings)

    read_rules(settings)
    check_tls(settings)
    check_engine(settings)
    arguments = () if config_path is None else ("--config", str(config_path.absolute()))
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with Store.lock(settings.node.data_dir, "serve"):
        for problem in data_dir_warnings(settings):
            log.warning(problem)
        with open_store(settings) as store:  # migrate once, before several processes want to
            check_objects(settings, store)
        specs = [ProcessSpec(name, command_line(name, *arguments), is_needed=name != "work") for name in PARTS]
        return supervise(specs, stopping)

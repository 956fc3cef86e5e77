"""The node's receiver as a process of its own, for `bench_ingest`: says its port, and at the end what it synced."""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path

from dicom_node.app import open_store
from dicom_node.dimse import DimseServer
from dicom_node.processes import stop_on_signals
from dicom_node.settings import DimseSettings, NodeSettings, Settings


def main() -> None:
    """Receive until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--ae-title", default="NODE")
    arguments = parser.parse_args()
    settings = Settings(
        node=NodeSettings(data_dir=arguments.data_dir, ae_title=arguments.ae_title),
        dimse=DimseSettings(host="127.0.0.1", port=0, min_free_bytes=0),
    )
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with open_store(settings) as store:
        with DimseServer(store, settings.dimse, ae_title=settings.node.ae_title) as server:
            print(json.dumps({"port": server.port}), flush=True)
            stopping.wait()
        counts = {
            "syncs_of_a_file_and_its_folder": store.inbox.n_object_syncs,
            "commits": store.inbox.n_commits,
            "instances": sum(series.n_instances for series in store.series.list()),
        }
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()

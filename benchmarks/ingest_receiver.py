"""The node's receiver as a process of its own, for `bench_ingest`: prints its port, and at the end what it synced.

With ``--upper-layer pynetdicom`` the same store is filled by pynetdicom's acceptor instead of the node's, so that what
the node's upper layer saves can be seen apart from what durability costs.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from dicom_node.app import open_store
from dicom_node.dimse import DimseServer
from dicom_node.processes import stop_on_signals
from dicom_node.settings import DimseSettings, NodeSettings, Settings
from dicom_node.store import Arrival, Store

MAX_PDU_BYTES = 131072
SUCCESS = 0x0000


def main() -> None:
    """Receive until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--ae-title", default="NODE")
    parser.add_argument("--upper-layer", choices=("node", "pynetdicom"), default="node")
    arguments = parser.parse_args()
    settings = Settings(
        node=NodeSettings(data_dir=arguments.data_dir, ae_title=arguments.ae_title),
        dimse=DimseSettings(host="127.0.0.1", port=0, min_free_bytes=0, max_pdu_bytes=MAX_PDU_BYTES),
    )
    listen = _node if arguments.upper_layer == "node" else _pynetdicom
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    with open_store(settings) as store:
        with listen(store, settings) as port:
            print(json.dumps({"port": port}), flush=True)
            stopping.wait()
        counts = {
            "syncs_of_a_file_and_its_folder": store.inbox.n_object_syncs,
            "commits": store.inbox.n_commits,
            "instances": sum(series.n_instances for series in store.series.list()),
        }
    print(json.dumps(counts), flush=True)


@contextmanager
def _node(store: Store, settings: Settings) -> Iterator[int]:
    with DimseServer(store, settings.dimse, ae_title=settings.node.ae_title) as server:
        yield server.port


@contextmanager
def _pynetdicom(store: Store, settings: Settings) -> Iterator[int]:
    """Stock pynetdicom: its acceptor, its event for C-STORE, the dataset in memory."""

    def keep(event: evt.Event) -> int:
        request = event.request
        names = {
            "sop_class_uid": str(request.AffectedSOPClassUID),
            "sop_instance_uid": str(request.AffectedSOPInstanceUID),
            "transfer_syntax_uid": str(event.context.transfer_syntax),
        }
        spool = store.objects.spool(**names)
        spool.write(request.DataSet.getvalue())
        requestor = event.assoc.requestor.ae_title
        arrival = Arrival(
            **names, calling_ae_title=requestor, association_id=event.assoc.name, received_at=datetime.now(UTC)
        )
        store.inbox.keep(spool, arrival)
        return SUCCESS

    ae = AE(settings.node.ae_title)
    ae.maximum_pdu_size = MAX_PDU_BYTES
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


if __name__ == "__main__":
    main()

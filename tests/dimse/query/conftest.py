"""A node with an archive that peers may query, on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.settings import DimsePeer, DimseSettings, QueryRetrieveSettings
from tests.dimse.query.archive import AE_TITLE, PEERS, Archive, fill
from tests.new_store import NewStore


@pytest.fixture(scope="module")
def archive(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The archive of `fill`; `PEERS` are known to it."""
    peers = [
        DimsePeer(
            name=title.lower(), ae_title=title, host="127.0.0.1", port=104, may_query=query, may_retrieve=retrieve
        )
        for title, (query, retrieve) in PEERS.items()
    ]
    policy = QueryRetrieve(AE_TITLE, QueryRetrieveSettings(), peers, terms=None)
    settings = DimseSettings(host="127.0.0.1", port=0)
    with (
        new_store(tmp_path_factory.mktemp("archive")) as store,
        DimseServer(store, settings, ae_title=AE_TITLE, query_retrieve=policy) as server,
    ):
        fill(store)
        yield Archive(server, store)

"""Objects in a bucket: ``kill -9`` of the receiver or of the server of objects loses nothing that was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dicom_node.store.objects.s3.objects import S3Objects
from tests.crash.parts import Node
from tests.crash.test_receive_killed import acknowledged, assert_kept, storescu
from tests.factories import ct_series
from tests.node_process import wait_for
from tests.s3_servers import BUCKET, CREDENTIALS, SeaweedServer, start_seaweedfs

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow]

N_INSTANCES, NTH = 8, 4
IN_THE_MIDDLE = "dicom_node.store.objects.s3.bucket"
MOMENTS = {
    "the spool is on disk, nothing is in the bucket": f"{IN_THE_MIDDLE}:Bucket.put:before:{NTH}",
    "the bucket has the bytes, no row is there": f"dicom_node.store.inbox:index_arrivals:before:{NTH}",
    "the row is written, not committed": f"dicom_node.store.inbox:index_arrivals:after:{NTH}",
    "committed, not answered": f"dicom_node.store.inbox:Inbox.keep:after:{NTH}",
}


@pytest.fixture(scope="module")
def server() -> Iterator[SeaweedServer]:
    with start_seaweedfs() as started:
        yield started


@pytest.fixture
def node(tmp_path: Path, server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> Node:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    node = Node(tmp_path)
    node.environment = CREDENTIALS
    place = server.place()
    node.configure(
        node={"ae_title": node.ae_title, "data_dir": str(tmp_path / "data"), "objects_url": place.url},
        objects={"endpoint_url": server.url, "timeout_s": 2.0},
    )
    return node


def are_sent(node: Node, paths: Sequence[Path]) -> bool:
    """Whether a sender gets success for all of these files."""
    output, _ = storescu(node, paths).communicate(timeout=60)
    return acknowledged(output) == list(paths)


def assert_bucket_is_index(node: Node) -> None:
    """Whoever opens the store alone, as this does, first takes back what a crash left."""
    with node.store() as store:
        assert isinstance(store.objects, S3Objects)
        bucket = store.objects.bucket
        stored = {Path(found.key).stem for found in bucket.listed("objects/")}
        named = set(store.integrity._expected("00", "g"))
        assert stored == named
        assert not list(store.objects.spool_folder.iterdir())
        bucket.abort_uploads("", older_than_s=0)
        with bucket._asking() as client:
            assert not client.list_multipart_uploads(Bucket=BUCKET, Prefix=bucket.place.prefix).get("Uploads")


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_killed_receiver_loses_nothing_and_leaves_nothing(node: Node, tmp_path: Path, moment: str) -> None:
    series = ct_series(n_slices=N_INSTANCES, seed="objects-killed")
    paths = series.write_to(tmp_path / "sent")
    with node.part("receive", moment) as receiver:
        receiver.wait_until_ready()
        output, _ = storescu(node, paths).communicate(timeout=240)
        receiver.wait_until_killed()
    safe = acknowledged(output)
    assert len(safe) == NTH - 1, output
    assert_kept(node, safe)
    assert_bucket_is_index(node)
    with node.part("receive") as receiver:
        receiver.wait_until_ready()
        output, _ = storescu(node, paths).communicate(timeout=240)
    assert acknowledged(output) == paths
    assert_kept(node, paths)
    assert_bucket_is_index(node)


def test_a_server_that_dies_is_answered_for_with_out_of_resources_until_it_is_back(
    node: Node, server: SeaweedServer, tmp_path: Path
) -> None:
    paths = ct_series(n_slices=N_INSTANCES, seed="server-killed").write_to(tmp_path / "sent")
    with node.part("receive") as receiver:
        receiver.wait_until_ready()
        output, _ = storescu(node, paths[:3]).communicate(timeout=240)
        assert acknowledged(output) == paths[:3]
        server.kill()
        try:
            receiver.wait_until_logged("objects-unavailable")
            output, _ = storescu(node, paths).communicate(timeout=240)
            assert acknowledged(output) == []
            assert "0xa700" in output.lower() or "OutOfResources" in output, output
        finally:
            server.start()
        wait_for("an intake without trouble", lambda: are_sent(node, paths[:1]), step_s=0.5)
        output, _ = storescu(node, paths).communicate(timeout=240)
        assert acknowledged(output) == paths
    assert_kept(node, paths)
    assert_bucket_is_index(node)


def test_a_server_that_is_frozen_holds_a_sender_for_a_bounded_time(
    node: Node, server: SeaweedServer, tmp_path: Path
) -> None:
    paths = ct_series(n_slices=3, seed="server-frozen").write_to(tmp_path / "sent")
    with node.part("receive") as receiver:
        receiver.wait_until_ready()
        assert are_sent(node, paths[:1])
        server.pause()
        try:
            output, _ = storescu(node, paths[1:2]).communicate(timeout=30)
            assert acknowledged(output) == []
        finally:
            server.resume()
        wait_for("an answer again", lambda: are_sent(node, paths), step_s=0.5)
    assert_kept(node, paths)
    assert_bucket_is_index(node)

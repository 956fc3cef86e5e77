"""``kill -9`` of the web server while instances come by STOW-RS loses nothing that was acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from tests.arrivals import dataset_bytes
from tests.crash.parts import Node
from tests.factories import EncodedInstance, ct_series

pytestmark = pytest.mark.crash

N_INSTANCES = 40
PER_REQUEST = 5
NTH = 17  # of the instances; the index gets them in batches, of which there is one for each request at least
MOMENTS = {
    "bytes are in place, no row is": "dicom_node.store.inbox:index_arrivals:before:6",
    "committed, not answered": f"dicom_node.store.inbox:Inbox.keep:after:{NTH}",
}


def post(node: Node, instances: Sequence[EncodedInstance]) -> list[str]:
    """Store instances; return the UIDs of those that are acknowledged, none if there is no answer."""
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + one.part10 + b"\r\n" for one in instances)
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    url = f"http://127.0.0.1:{node.web_port}/dicom-web/studies"
    try:
        answer = httpx.post(url, content=parts + b"--b--\r\n", headers=headers, timeout=60, trust_env=False)
    except httpx.TransportError:
        return []
    assert answer.status_code == httpx.codes.OK, answer.text
    return [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_what_was_acknowledged_is_there_and_the_rest_can_be_sent_again(node: Node, moment: str) -> None:
    node.configure(web={"stow": True})
    series = list(ct_series(N_INSTANCES, seed="stow-killed"))
    batches = [series[at : at + PER_REQUEST] for at in range(0, N_INSTANCES, PER_REQUEST)]
    by_uid = {str(one.dataset().SOPInstanceUID): one for one in series}
    with node.part("web", moment) as web:
        web.wait_until_ready()
        safe = [uid for batch in batches for uid in post(node, batch)]
        web.wait_until_killed()
    assert 0 < len(safe) < N_INSTANCES
    assert_kept(node, {uid: by_uid[uid] for uid in safe})

    with node.part("web") as web:
        web.wait_until_ready()
        assert [uid for batch in batches for uid in post(node, batch)] == list(by_uid)
    assert_kept(node, by_uid)
    with node.store() as store:
        (row,) = store.series.list()
        assert (row.n_instances, row.generation, store.series.n_conflicts()) == (N_INSTANCES, 1, 0)
        assert not list(store.objects.spool_folder.iterdir())


def assert_kept(node: Node, instances: dict[str, EncodedInstance]) -> None:
    with node.store() as store:
        for uid, instance in instances.items():
            (row,) = store.search.find_instances(sop_instance_uid=uid)
            assert store.objects.read_dataset_bytes(row.digest) == dataset_bytes(instance.part10)

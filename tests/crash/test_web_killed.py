"""``kill -9`` of the web server in the middle of an answer harms nothing; the next one answers the same."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from tests.arrivals import receive
from tests.crash.parts import Node, Part
from tests.factories import ct_series

pytestmark = pytest.mark.crash


def kill_while_answering(web: Part, url: str) -> None:
    with httpx.Client(trust_env=False, timeout=60) as client, client.stream("GET", url) as answer:
        assert answer.status_code == httpx.codes.OK
        for _ in answer.iter_raw(1024):
            web.kill()


def test_a_web_server_that_was_killed_in_an_answer_gives_it_whole_after_a_restart(node: Node) -> None:
    series = ct_series(n_slices=40, rows=256, columns=256, seed="web-killed")
    with node.store() as store:
        receive(store, series)
        objects = {row.digest for row in store.series.instances(series.series_instance_uid)}
    url = f"http://127.0.0.1:{node.web_port}/dicom-web/studies/{series.study_instance_uid}"

    with node.part("web") as web:
        web.wait_until_ready()
        with pytest.raises(httpx.RemoteProtocolError):
            kill_while_answering(web, url)

    with node.part("web") as web:
        web.wait_until_ready()
        answer = httpx.get(
            url, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}, timeout=60
        )
        assert answer.status_code == httpx.codes.OK
        assert answer.content.count(b"DICM") == len(series)
        found = httpx.get(f"{url}/instances", headers={"Accept": "application/dicom+json"}, timeout=60).json()
        assert len(found) == len(series)
    with node.store() as store:
        rows = store.series.instances(series.series_instance_uid)
        assert {row.digest for row in rows} == objects
        assert all(hashlib.sha256(store.objects.read_dataset_bytes(d)).hexdigest() == d for d in objects)


def test_a_web_server_that_has_just_started_stops_at_once(node: Node) -> None:
    with node.part("web") as web:
        web.wait_until_ready()
        web.process.terminate()
        web.process.join(60.0)
        assert web.process.exitcode == 0

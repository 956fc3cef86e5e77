"""Results are deleted by administrators only, and the audit trail has it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from dicom_node.access.refusals import MAX_OF_SOURCE
from dicom_node.settings import WebSettings
from dicom_node.store import JobState
from tests.arrivals import leave_results
from tests.dicomweb.serving import serve
from tests.dicomweb.test_retrieve_over_http import instance_path
from tests.new_store import NewStore

ANNA = {"X-Remote-User": "anna"}


def test_an_administrator_deletes_results_and_nobody_else_does(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        first, second = leave_results(store, "pacs")
        of_series = instance_path(first).partition("/instances/")[0]
        uid = of_series.rpartition("/")[2]
        (source, *_) = [row.series_instance_uid for row in store.series.list() if row.series_instance_uid != uid]
        with serve(store, administrators=["anna"]) as url, httpx.Client(base_url=f"{url}/dicom-web") as http:
            for headers in ({}, {"X-Remote-User": "bob"}, {"X-Remote-User": "ANNA"}):
                answer = http.delete(of_series, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")
            assert [entry.actor for entry in store.audit.of(uid, action="deletion refused")] == [
                "ANNA",
                "bob",
                "unknown",
            ]
            assert len(http.get(f"{of_series}/instances").json()) == 2

            assert http.delete(instance_path(first), headers=ANNA).status_code == 204
            assert [one["00080018"]["Value"][0] for one in http.get(f"{of_series}/instances").json()] == [
                second.dataset().SOPInstanceUID
            ]
            assert {row.state for row in store.deliveries.list()} == {JobState.CANCELLED, JobState.QUEUED}
            assert http.delete(of_series, headers=ANNA).status_code == 204
            assert http.get(of_series).status_code == 404
            assert http.get("/series", params={"SeriesInstanceUID": uid}).status_code == 204
            assert http.delete(of_series, headers=ANNA).status_code == 404
            assert {row.state for row in store.deliveries.list()} == {JobState.CANCELLED}
            entries = store.audit.of(uid, action="results withdrawn")
            assert [(entry.actor, len(entry.detail["sop_instance_uids"])) for entry in entries] == [("anna", 1)] * 2

            (row, *_) = store.search.find_instances(series_instance_uid=source)
            received = f"/studies/{row.study_instance_uid}/series/{source}"
            answer = http.delete(received, headers=ANNA)
            assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")
            assert len(store.search.find_instances(series_instance_uid=source)) == 2


def test_refused_deletions_with_made_up_names_do_not_fill_the_audit_trail(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        first, *_ = leave_results(store)
        with serve(store, administrators=["anna"]) as url, httpx.Client(base_url=f"{url}/dicom-web") as http:
            for number in range(MAX_OF_SOURCE + 20):
                answer = http.delete(instance_path(first), headers={"X-Remote-User": f"name {number}"})
                assert answer.status_code == 403
        entries = store.audit.list(action="deletion refused", limit=1000)
        assert len(entries) == MAX_OF_SOURCE
        assert entries[0].detail["address"] == "127.0.0.1"


def test_nothing_is_deleted_where_there_are_no_administrators(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        first, *_ = leave_results(store)
        with serve(store) as url:
            answer = httpx.delete(f"{url}/dicom-web{instance_path(first)}", headers=ANNA, trust_env=False)
        assert answer.status_code == 405
        assert store.search.find_instances(sop_instance_uid=first.dataset().SOPInstanceUID)


def test_the_header_of_names_is_a_header() -> None:
    with pytest.raises(ValidationError, match="user_header"):
        WebSettings(user_header="X Remote\r\n")

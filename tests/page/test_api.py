"""The JSON API: what the page can do, as its description says, for programs and against foreign pages."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from dicom_node.dicomweb import build_app
from dicom_node.page import page_routes
from dicom_node.page.api import openapi
from dicom_node.settings import Settings
from dicom_node.store import DecisionKind, JobState
from tests.factories import ct_series
from tests.page.conftest import Node
from tests.page.serving import TERMS
from tests.page.test_upload import zipped

IMAGE = next(iter(ct_series(1, seed="uploaded by a program"))).part10
BODIES = {
    "application/dicom": [IMAGE],
    "application/zip": [zipped({"IM1": IMAGE}), zipped({"IM1": IMAGE, "notes.txt": b"x"}), zipped({"DICOMDIR": IMAGE})],
}
for media_type, bodies in BODIES.items():
    schemathesis.openapi.media_type(media_type, st.sampled_from(bodies))

    @schemathesis.serializer(media_type)
    def as_bytes(_: Any, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()


SAID = {"kind": "release", "reason": "a phantom", "decided_by": "A. Example"}


@pytest.fixture
def http(node: Node) -> Any:
    with httpx.Client(base_url=node.url, trust_env=False, timeout=60) as client:
        yield client


def test_a_program_releases_what_it_has_read(node: Node, http: httpx.Client) -> None:
    uid = node.another()
    path = f"/api/studies/{uid}"
    fingerprint = http.get(path).json()["evidence_fingerprint"]
    answer = http.post(f"{path}/decisions", json=SAID | {"evidence_fingerprint": fingerprint})
    assert answer.status_code == 201
    assert answer.json()["kind"] == "release"
    (row,) = node.store.decisions.of(uid)
    assert (row.kind, row.decided_by, row.reason) == (DecisionKind.RELEASE, "A. Example", "a phantom")
    assert http.get(path).json()["state"] == "cleared"
    assert http.get(f"{path}/history").json()[0]["id"] == row.id


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({}, 400, "bad-form"),  # which evidence was looked at?
        ({"evidence_fingerprint": "0" * 64}, 409, "evidence-changed"),
        ({"kind": "hold", "reason": ""}, 409, "decision-refused"),
        ({"kind": "burn"}, 400, "bad-form"),
        ({"kind": "hold", "reason": 5}, 400, "bad-form"),
        ({"kind": "hold", "reason": "a\0b"}, 409, "decision-refused"),
        ({"kind": "hold", "decided_by": "\ud800"}, 409, "decision-refused"),
        ({"kind": "hold", "colour": "x"}, 400, "bad-form"),
    ],
)
def test_what_is_not_allowed_is_a_problem(
    node: Node, http: httpx.Client, changed: dict[str, Any], status: int, code: str
) -> None:
    answer = http.post(
        f"/api/studies/{node.review.study_instance_uid}/decisions",
        content=json.dumps(SAID | changed),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert node.store.decisions.of(node.review.study_instance_uid) == ()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},  # what a form of another site can send without asking
        {"Content-Type": "application/json", "Origin": "https://evil.example"},
        {"Content-Type": "application/json", "Origin": "http://["},
        {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "application/json", "Host": "evil.example"},
    ],
)
def test_pages_of_other_sites_change_nothing(node: Node, http: httpx.Client, headers: dict[str, str]) -> None:
    body = b'{"kind": "hold", "reason": "x", "decided_by": "x"}'
    answer = http.post(f"/api/studies/{node.cleared.study_instance_uid}/decisions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-request")
    assert node.store.decisions.of(node.cleared.study_instance_uid) == ()


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"kind":' * 7_000, b"\xff", b"[]"])
def test_a_body_that_is_no_object_is_a_problem(node: Node, http: httpx.Client, body: bytes) -> None:
    path = f"/api/studies/{node.review.study_instance_uid}/decisions"
    answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-form")


def test_a_parameter_that_no_database_takes_is_a_problem(node: Node, http: httpx.Client) -> None:
    answer = http.get("/api/deliveries", params={"peer": "a\0b"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-form")


def test_jobs_are_listed_explained_and_cancelled(node: Node, http: httpx.Client) -> None:
    (job,) = http.get("/api/jobs", params={"series": node.cleared.series_instance_uid}).json()
    assert job["state"] == "succeeded"
    whole = http.get(f"/api/jobs/{job['id']}").json()
    assert [event["event"] for event in whole["events"]] == ["queued", "claimed", "succeeded"]
    assert [result["kind"] for result in whole["results"]] == ["seg"]
    refused = http.post(f"/api/jobs/{job['id']}/cancel", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal-transition")
    assert node.store.jobs.get(job["id"]).state is JobState.SUCCEEDED
    assert http.get("/api/jobs?state=dead,queued").json() == []
    assert http.get("/api/jobs?limit=1").json()[0]["id"] == max(one.id for one in node.store.jobs.list())
    assert http.get("/api/deliveries", params={"study": node.cleared.study_instance_uid, "state": "dead"}).json() == []
    assert http.get("/api/work").json()["counts"]["succeeded"] >= 1


def test_a_body_where_none_is_wanted_is_refused(node: Node, http: httpx.Client) -> None:
    for path in ("/api/jobs/1/retry", "/api/deliveries/1/retry"):
        answer = http.post(path, json={"reason": "again"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-form")
        assert "'reason', expected none" in answer.json()["detail"]


def test_with_access_control_the_description_says_so() -> None:
    plain, locked = openapi(), openapi(signs_in=True)
    assert "security" not in plain
    assert locked["security"] == [{"token": []}]
    assert locked["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, item in locked["paths"].items():
        for method in {"get", "post"} & item.keys():
            wanted = {"401", "403", "429"} | ({"408", "413"} if method == "post" else set())
            assert wanted <= item[method]["responses"].keys(), (method, path)
            assert not {"401", "429"} & plain["paths"][path][method]["responses"].keys()


def test_the_description_names_exactly_what_there_is(node: Node) -> None:
    more = page_routes(node.store, Settings(), lambda: TERMS)
    app: Any = build_app(node.store, terms=lambda: TERMS, decoding_bytes=2**20, more_routes=more)
    routes = [route for route in app._app.routes if isinstance(route, Route) and route.path.startswith("/api/")]
    served = {(route.path, method.lower()) for route in routes for method in route.methods or () if method != "HEAD"}
    described = {
        (path, method) for path, item in openapi()["paths"].items() for method in item if method in ("get", "post")
    }
    assert served == described


@pytest.mark.slow
def test_answers_are_as_described_whatever_is_asked(node: Node) -> None:
    schema = schemathesis.openapi.from_url(f"{node.url}/api/openapi.json")

    for found in schema.get_all_operations():
        operation = found.ok()
        strategy = operation.as_strategy()

        @settings(
            max_examples=8,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=strategy)
        def ask(case: Any) -> None:
            case.call_and_validate()

        ask()

"""People sign in to the page with a token; what they do then has their name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.access.gatekeeper import COOKIE
from dicom_node.access.roles import Role
from dicom_node.access.secrets_at_rest import digest_of
from dicom_node.access.tokens import create_token
from dicom_node.store import DecisionKind, WebSessionRow
from tests.access.conftest import SETTINGS, LockedNode, add_token
from tests.export.clearing import looked_at
from tests.page.serving import Reader, serve_page


def sign_in(reader: Reader, token: str, wanted: str = "/") -> None:
    fields = reader.hidden(f"/sign-in?next={wanted}")
    answer = reader.send("/sign-in", {**fields, "access_token": token})
    assert answer.status_code == 303, answer.text


@pytest.fixture
def reader(node: LockedNode) -> Iterator[Reader]:
    with Reader(node.url) as reading:
        yield reading


def test_after_signing_in_a_person_is_where_they_wanted_to_go(node: LockedNode, reader: Reader) -> None:
    asked = reader.get(f"/studies/{node.study}?volume=0")
    assert asked.headers["location"] == f"/sign-in?next=%2Fstudies%2F{node.study}%3Fvolume%3D0"
    fields = reader.hidden(asked.headers["location"])
    answer = reader.send("/sign-in", {**fields, "access_token": node.tokens["reviewer"]})
    assert answer.headers["location"] == f"/studies/{node.study}?volume=0"
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(COOKIE))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert node.tokens["reviewer"] not in cookie
    page = reader.get(answer.headers["location"]).text
    assert "You decide as <strong>the reviewer</strong>" in page
    assert 'name="name"' not in page


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\tx"]
)
def test_nobody_is_sent_to_another_site_after_signing_in(node: LockedNode, reader: Reader, wanted: str) -> None:
    fields = reader.hidden("/sign-in")
    answer = reader.send("/sign-in", {**fields, "next": wanted, "access_token": node.tokens["viewer"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("token", "words"), [("expired", "this token is expired"), ("revoked", "this token is revoked")]
)
def test_a_token_that_does_not_count_begins_no_session(
    node: LockedNode, reader: Reader, token: str, words: str
) -> None:
    answer = reader.send("/sign-in", {**reader.hidden("/sign-in"), "access_token": node.tokens[token]})
    assert answer.status_code == 401
    assert words in answer.text
    assert COOKIE not in reader.client.cookies


def test_a_decision_has_the_name_of_who_signed_in_whatever_the_form_says(node: LockedNode, reader: Reader) -> None:
    uid = looked_at(node.store, "indeterminate", "named", with_seg=False).study_instance_uid
    sign_in(reader, node.tokens["reviewer"])
    fields = {**reader.hidden(f"/studies/{uid}"), "kind": "hold", "reason": "a phantom", "name": "Somebody Else"}
    assert reader.send(f"/studies/{uid}/decide", fields).status_code == 303
    (row,) = node.store.decisions.of(uid)
    assert (row.kind, row.decided_by) == (DecisionKind.HOLD, "the reviewer")
    fields = {**reader.hidden(f"/review/{uid}"), "undo": f"{uid}_{row.id}"}
    assert reader.send(f"/review/{uid}/decide", fields).status_code == 303
    assert [one.decided_by for one in node.store.decisions.of(uid)] == ["the reviewer"] * 2


def test_by_the_api_nobody_decides_in_the_name_of_another(node: LockedNode) -> None:
    uid = looked_at(node.store, "indeterminate", "api", with_seg=False).study_instance_uid
    said = {"kind": "hold", "reason": "a phantom"}
    with node.client("reviewer") as client:
        answer = client.post(f"/api/studies/{uid}/decisions", json=said | {"decided_by": "Somebody Else"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-form")
        assert client.post(f"/api/studies/{uid}/decisions", json=said).json()["decided_by"] == "the reviewer"
    with node.client("viewer") as client:
        assert client.post(f"/api/studies/{uid}/decisions", json=said).status_code == 403
    assert len(node.store.decisions.of(uid)) == 1


def test_a_viewer_can_sign_in_and_not_decide(node: LockedNode, reader: Reader) -> None:
    sign_in(reader, node.tokens["viewer"])
    page = f"/studies/{node.study}"
    assert reader.get(page).status_code == 200
    assert "may not decide" in reader.get(page).text
    answer = reader.send(f"{page}/decide", {"kind": "hold", "reason": "x"})
    assert answer.status_code == 403
    assert "ask for the role reviewer or exporter or admin" in answer.text
    assert 'href="/sign-in">the viewer' in answer.text
    assert 'href="/review"' not in answer.text  # nothing is offered that they may not
    assert node.store.decisions.of(node.study) == ()


def test_a_session_ends_with_its_token_and_when_its_person_signs_out(node: LockedNode, reader: Reader) -> None:
    text, token_id = add_token(node.store, "for an hour", Role.VIEWER)
    sign_in(reader, text)
    assert reader.get("/work").status_code == 200
    node.store.access_tokens.revoke(token_id, by="tests", now=datetime.now(UTC))
    assert reader.get("/work").status_code == 303
    sign_in(reader, node.tokens["viewer"])
    stolen = reader.client.cookies[COOKIE]
    assert reader.send("/sign-out", reader.hidden("/sign-in")).status_code == 303
    assert COOKIE not in reader.client.cookies
    reader.client.cookies.set(COOKIE, stolen)
    assert reader.get("/work").status_code == 303
    assert ("the viewer", node.tokens["viewer"].split("_")[1]) in node.audited("signed-out")


def test_a_session_ends_by_itself(node: LockedNode) -> None:
    now = [datetime.now(UTC)]
    with serve_page(node.store, SETTINGS, clock=lambda: now[0]) as url, Reader(url) as reader:
        sign_in(reader, node.tokens["viewer"])
        now[0] += timedelta(hours=11, minutes=59)
        assert reader.get("/work").status_code == 200
        now[0] += timedelta(minutes=2)
        assert reader.get("/work").status_code == 303


def test_a_session_never_outlives_its_token(node: LockedNode) -> None:
    now = [datetime.now(UTC)]
    with serve_page(node.store, SETTINGS, clock=lambda: now[0]) as url, Reader(url) as reader:
        text, row = create_token(node.store, "x", Role.VIEWER, days=1 / 24, created_by="tests", now=now[0])
        sign_in(reader, text)
        now[0] += timedelta(minutes=59)
        assert reader.get("/work").status_code == 200
        now[0] += timedelta(minutes=2)
        assert reader.get("/work").status_code == 303
        secret = "a session that began while its token was being revoked"
        begun = WebSessionRow(digest_of(secret), "x", "viewer", row.id, now[0], now[0] + timedelta(hours=1))
        node.store.access_tokens.revoke(row.id, by="tests", now=now[0])
        node.store.web_sessions.begin(begun, address="127.0.0.1")
        assert node.store.web_sessions.find(digest_of(secret), now[0] - timedelta(hours=1)) is None


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_a_page_of_another_site_changes_nothing_with_the_cookie_of_a_person(
    node: LockedNode, reader: Reader, headers: dict[str, str]
) -> None:
    sign_in(reader, node.tokens["admin"])
    for method, path in (("POST", "/dicom-web/studies"), ("DELETE", "/dicom-web/studies/1.2/series/1.2.3")):
        answer = reader.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign-request")


def test_a_part_of_a_page_sends_the_whole_page_to_the_form(reader: Reader) -> None:
    answer = reader.client.get("/work/now", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(node: LockedNode) -> None:
    settings = {"web": {**SETTINGS["web"], "public_url": "https://imaging.example.org/node"}}
    with serve_page(node.store, settings) as url, Reader(url) as reader:
        first = reader.get("/node/sign-in")
        reader.client.cookies.clear()
        browser = first.headers["set-cookie"].partition(";")[0]
        seen = {"Cookie": browser, "Host": "imaging.example.org", "Origin": "https://imaging.example.org"}
        token = first.text.partition('name="token" value="')[2].partition('"')[0]
        answer = reader.send("/node/sign-in", {"token": token, "access_token": node.tokens["viewer"]}, **seen)
        assert (answer.status_code, answer.headers["location"]) == (303, "/node/")
        assert {"Secure", "HttpOnly", "Path=/node"} <= set(answer.headers["set-cookie"].split("; "))
        assert {each.headers["strict-transport-security"] for each in (first, answer)} == {"max-age=31536000"}
    with serve_page(node.store, SETTINGS) as url, Reader(url) as reader:
        assert "strict-transport-security" not in reader.get("/sign-in").headers  # without TLS it means nothing


def test_what_people_do_to_jobs_and_results_has_their_name(node: LockedNode) -> None:
    looked_at(node.store, "defaced", "results")
    (job, *_) = node.store.jobs.list(limit=1)
    (result,) = node.store.jobs.results(job.id)
    (row,) = node.store.search.find_instances(sop_instance_uid=result.sop_instance_uid)
    path = f"/dicom-web/studies/{row.study_instance_uid}/series/{row.series_instance_uid}"
    with node.client("exporter") as client:
        assert client.delete(path).status_code == 403
    with node.client("admin") as client:
        assert client.delete(path).status_code == 204
    assert ("the admin", row.series_instance_uid) in node.audited("results withdrawn")

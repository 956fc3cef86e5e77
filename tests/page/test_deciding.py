"""Decisions by the page: the same as by the command line, and nobody else's form counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
import pytest

from dicom_node.store import DecisionKind
from tests.arrivals import receive
from tests.export.clearing import NOW
from tests.factories import ct_series
from tests.page.conftest import Node
from tests.page.serving import Reader, serve_page

SAID = {"kind": "release", "reason": "a phantom", "name": "A. Example"}


def send(
    reader: Reader, uid: str, *, changed: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    path = f"/studies/{uid}"
    return reader.send(f"{path}/decide", {**reader.hidden(path), **SAID, **(changed or {})}, **(headers or {}))


def decisions(node: Node, uid: str) -> list[tuple[str, str, str]]:
    return [(row.kind.value, row.decided_by, row.reason) for row in node.store.decisions.of(uid)]


def test_a_release_is_recorded_with_name_reason_and_evidence(node: Node, reader: Reader) -> None:
    uid = node.another()
    answer = send(reader, uid)
    assert answer.status_code == 303
    (row,) = node.store.decisions.of(uid)
    assert (row.kind, row.decided_by, row.reason) == (DecisionKind.RELEASE, "A. Example", "a phantom")
    assert row.evidence_fingerprint == node.store.studies.evidence(uid).fingerprint
    page = reader.get(answer.headers["location"]).text
    assert '<span class="state cleared">cleared</span> released by A. Example: a phantom' in page


def test_a_hold_keeps_a_cleared_study_in(node: Node, reader: Reader) -> None:
    uid = node.another("defaced")
    assert send(reader, uid, changed={"kind": "hold"}).status_code == 303
    assert 'class="state held"' in reader.get(f"/studies/{uid}").text


@pytest.mark.parametrize(
    ("state", "changed", "status", "words"),
    [
        ("review", {"reason": " "}, 409, "the reason is empty"),
        ("review", {"name": ""}, 409, "the name is empty"),
        ("review", {"reason": "x" * 1001}, 409, "at most 1000"),
        ("review", {"kind": "burn"}, 400, "the decision is"),
        ("open", {}, 409, "is open"),
        ("blocked", {}, 409, "the rules allow no release"),
    ],
)
def test_what_the_gate_refuses_is_said_above_the_form(
    node: Node, reader: Reader, state: str, changed: dict[str, str], status: int, words: str
) -> None:
    uid = node.states[state].study_instance_uid
    answer = send(reader, uid, changed=changed)
    assert answer.status_code == status
    assert words in answer.text
    assert decisions(node, uid) == []


def test_evidence_that_changed_while_a_person_looked_asks_again(node: Node, reader: Reader) -> None:
    uid = node.another()
    hidden = reader.hidden(f"/studies/{uid}")
    late = ct_series(n_slices=1, seed="late", edit=lambda ds, _: setattr(ds, "StudyInstanceUID", uid))
    receive(node.store, late, at=NOW)
    answer = reader.send(f"/studies/{uid}/decide", {**hidden, **SAID, "kind": "hold"})
    assert answer.status_code == 409
    assert "The study has changed since you opened it" in answer.text
    assert 'value="a phantom"' in answer.text  # nothing has to be typed again
    assert decisions(node, uid) == []
    assert send(reader, uid, changed={"kind": "hold"}).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},  # whose address is the node's
    ],
)
def test_a_form_of_another_site_changes_nothing(node: Node, reader: Reader, headers: dict[str, str]) -> None:
    answer = send(reader, node.review.study_instance_uid, headers=headers)
    assert answer.status_code == 403
    assert "nothing was changed" in answer.text
    assert decisions(node, node.review.study_instance_uid) == []


def test_a_form_of_the_same_page_with_all_that_a_browser_says_is_taken(node: Node, reader: Reader) -> None:
    headers = {"Origin": node.url, "Sec-Fetch-Site": "same-origin"}
    assert send(reader, node.another(), headers=headers).status_code == 303


@pytest.mark.parametrize("changed", [{"token": "é\U0001f600"}, {"token": ""}, {"token": "0" * 64}])
def test_a_form_without_the_right_token_changes_nothing(node: Node, reader: Reader, changed: dict[str, str]) -> None:
    assert send(reader, node.review.study_instance_uid, changed=changed).status_code == 403
    assert decisions(node, node.review.study_instance_uid) == []


def test_a_token_is_of_one_browser_and_one_process(node: Node, reader: Reader) -> None:
    path = f"/studies/{node.review.study_instance_uid}"
    with Reader(node.url) as thief:
        stolen = thief.hidden(path)
    mine = reader.hidden(path)
    assert reader.send(f"{path}/decide", {**mine, "token": stolen["token"], **SAID}).status_code == 403
    with serve_page(node.store) as url, Reader(url) as same_browser:  # a restart
        same_browser.client.cookies = reader.client.cookies
        answer = same_browser.send(f"{path}/decide", {**mine, **SAID})
    assert answer.status_code == 403
    assert "reload the page" in answer.text
    assert decisions(node, node.review.study_instance_uid) == []


def test_a_body_that_is_too_long_is_refused(node: Node, reader: Reader) -> None:
    answer = send(reader, node.review.study_instance_uid, changed={"reason": "x" * 70_000})
    assert answer.status_code == 413
    assert "longer than 65536 bytes" in answer.text


def test_nothing_is_decided_by_a_link(node: Node, reader: Reader) -> None:
    assert reader.get(f"/studies/{node.review.study_instance_uid}/decide").status_code == 405


def test_behind_a_proxy_links_and_forms_carry_its_path(node: Node) -> None:
    web = {"web": {"public_url": "https://imaging.example.org/node/"}}
    uid = node.another()
    path = f"/node/studies/{uid}"
    with serve_page(node.store, web) as url, Reader(url) as reader:
        text = reader.get("/node/").text
        assert f'href="{path}"' in text
        assert 'src="/node/assets/page.js?v=' in text
        first = reader.get(path)
        cookie, *attributes = first.headers["set-cookie"].split("; ")
        assert {"Secure", "HttpOnly", "Path=/node"} <= set(attributes)
        seen = {"Cookie": cookie, "Host": "imaging.example.org"}  # a client that reads http would keep the cookie
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', first.text))
        foreign = {**seen, "Origin": "https://other.example.org"}
        assert reader.send(f"{path}/decide", {**fields, **SAID}, **foreign).status_code == 403
        ours = {**seen, "Origin": "https://imaging.example.org"}
        answer = reader.send(f"{path}/decide", {**fields, **SAID}, **ours)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path}#decide")
    assert len(decisions(node, uid)) == 1

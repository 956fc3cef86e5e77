"""OpenID Connect with a provider in a process of its own: people on the page, programs with its tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from dicom_node.settings import SettingsError, load_settings
from dicom_node.store import Store
from tests.access.oidc_provider import Provider, start_provider
from tests.export.clearing import looked_at
from tests.new_store import NewStore
from tests.page.serving import Reader, serve_page

PEOPLE = {
    "u1": {"preferred_username": "A. Example", "roles": ["dicom-reviewers", "staff"]},
    "u2": {"preferred_username": "B. Example", "roles": ["dicom-readers", "dicom-admins"]},
    "u3": {"preferred_username": "C. Example", "roles": ["staff"]},
    "u4": {"name": "D", "roles": "dicom-readers"},
}
ROLES = {"dicom-reviewers": "reviewer", "dicom-admins": "admin", "dicom-readers": "viewer"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with start_provider(PEOPLE) as started:
        yield started


@pytest.fixture(scope="module")
def node(
    provider: Provider, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Store, str]]:
    settings = {
        "web": {"access": "oidc"},
        "oidc": {"issuer": provider.url, "client_id": "node", "client_secret_env": "NODE_SECRET", "roles": ROLES},
    }
    with new_store(tmp_path_factory.mktemp("oidc")) as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_SECRET", "a secret")
        study = looked_at(store, "indeterminate", "oidc", with_seg=False).study_instance_uid
        with serve_page(store, settings) as url:
            yield url, store, study


@pytest.fixture
def reader(node: tuple[str, Store, str]) -> Iterator[Reader]:
    with Reader(node[0]) as reading:
        yield reading


def leave(reader: Reader, wanted: str = "/") -> str:
    """Follow the link to the provider; return its address."""
    page = reader.get(f"/sign-in?next={wanted}").text
    link = re.search(r'href="(/sign-in/oidc[^"]*)"', page)
    assert link is not None, page
    answer = reader.get(link[1].replace("&amp;", "&"))
    assert answer.status_code == 303
    return answer.headers["location"]


def come_back(reader: Reader, provider: Provider, subject: str, address: str) -> httpx.Response:
    """Sign in at the provider, and bring its answer back."""
    back = urlsplit(provider.sign_in(address, subject))
    return reader.get(f"{back.path}?{back.query}")


def test_a_person_signs_in_and_decides_under_the_name_that_the_provider_says(
    node: tuple[str, Store, str], provider: Provider, reader: Reader
) -> None:
    url, store, study = node
    address = leave(reader, f"/studies/{study}")
    asked = {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
    assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", "node", "S256")
    assert asked["redirect_uri"] == f"{url}/sign-in/callback"
    verifier = reader.client.cookies["dicom_node_oidc"].partition("!")[0].split(".")[2]
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert asked["code_challenge"] == digest
    answer = come_back(reader, provider, "u1", address)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study}")
    assert "dicom_node_oidc" not in reader.client.cookies
    fields = {**reader.hidden(f"/studies/{study}"), "kind": "hold", "reason": "a phantom"}
    assert reader.send(f"/studies/{study}/decide", fields).status_code == 303
    assert [row.decided_by for row in store.decisions.of(study)] == ["A. Example"]
    assert next(row.actor for row in store.audit.list(action="signed-in")) == "A. Example"


def test_the_widest_of_several_roles_counts(node: tuple[str, Store, str], provider: Provider, reader: Reader) -> None:
    come_back(reader, provider, "u2", leave(reader))
    assert "with the role <strong>admin</strong>" in reader.get("/sign-in").text
    with Reader(node[0]) as other:
        come_back(other, provider, "u4", leave(other))
        page = other.get("/sign-in").text
        assert "as <strong>u4</strong>, with the role <strong>viewer</strong>" in page  # no name: the subject


def test_who_has_no_role_here_gets_no_session(node: tuple[str, Store, str], provider: Provider, reader: Reader) -> None:
    answer = come_back(reader, provider, "u3", leave(reader))
    assert answer.status_code == 403
    assert "C. Example has no role at this node" in answer.text
    assert "dicom_node_session" not in reader.client.cookies


def test_an_answer_that_nobody_asked_for_begins_no_session(
    node: tuple[str, Store, str], provider: Provider, reader: Reader
) -> None:
    with Reader(node[0]) as attacker:
        back = urlsplit(provider.sign_in(leave(attacker), "u2"))
    answer = reader.get(f"{back.path}?{back.query}")  # a link that the attacker sent
    assert answer.status_code == 401
    leave(reader)  # the victim was about to sign in
    assert reader.get(f"{back.path}?{back.query}").status_code == 401
    assert "dicom_node_session" not in reader.client.cookies


def test_a_code_counts_once_and_only_for_the_sign_in_that_it_is_of(provider: Provider, reader: Reader) -> None:
    back = urlsplit(provider.sign_in(leave(reader), "u1"))
    cookie = reader.client.cookies["dicom_node_oidc"]
    assert reader.get(f"{back.path}?{back.query}").status_code == 303
    reader.client.cookies.clear()
    reader.client.cookies.set("dicom_node_oidc", cookie)
    assert reader.get(f"{back.path}?{back.query}").status_code == 401
    first = urlsplit(provider.sign_in(leave(reader), "u1"))
    code = parse_qs(first.query)["code"][0]
    second = parse_qs(urlsplit(leave(reader)).query)["state"][0]
    answer = reader.get(f"{first.path}?code={code}&state={second}")  # the code of one with the state of another
    assert (answer.status_code, "for another sign-in" in answer.text) == (401, True)


def test_who_declines_at_the_provider_is_told_so(provider: Provider, reader: Reader) -> None:
    address = leave(reader)
    back = urlsplit(provider.sign_in(address, "u1", action="deny"))
    (state,) = parse_qs(urlsplit(address).query)["state"]  # which this provider leaves out where it refuses
    answer = reader.get(f"{back.path}?{back.query}&state={state}")
    assert answer.status_code == 401
    assert "access_denied" in answer.text


def bearer(node: tuple[str, Store, str], token: str, path: str = "/api/work") -> httpx.Response:
    return httpx.get(f"{node[0]}{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


def test_programs_send_a_signed_token_of_the_provider(node: tuple[str, Store, str], provider: Provider) -> None:
    token = provider.token("u4", client_id="node")
    assert bearer(node, token).status_code == 200
    refused = httpx.delete(
        f"{node[0]}/dicom-web/studies/1.2/series/1.2.3", headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "not-permitted")
    assert bearer(node, provider.token("u3", client_id="node")).json()["code"] == "no-role"


def changed(token: str, key: Any, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token with other claims, signed with another key."""
    parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]
    return jwt.encode(
        {**parts[0], **(header or {})}, {**parts[1], **claims}, key, algorithms=["RS256", "HS256", "none"]
    )


@pytest.mark.filterwarnings("ignore")
def test_tokens_that_are_not_for_this_node_open_nothing(node: tuple[str, Store, str], provider: Provider) -> None:
    good = provider.token("u2", client_id="node")
    own = RSAKey.generate_key(2048)
    head, body, signature = good.split(".")
    public = httpx.get(f"{provider.url}/jwks", trust_env=False).content
    wrong = {
        "of another client": provider.token("u2", client_id="somebody-else"),
        "signed by somebody else": changed(good, own),
        "without a signature": f"{head}.{body}.",
        "alg none": changed(good, OctKey.import_key(b"x"), {"alg": "none"}).rpartition(".")[0] + ".",
        "signed with the public key": changed(good, OctKey.import_key(public), {"alg": "HS256"}),
        "changed": f"{head}.{body[:-8]}AAAAAAAA.{signature}",
        "not a token": "a.b.c",
    }
    for what, token in wrong.items():
        answer = bearer(node, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "not-signed-in"), what


def test_an_expired_token_opens_nothing(new_store: NewStore, tmp_path: Path) -> None:
    with start_provider(PEOPLE, token_max_age=-3600) as provider, new_store(tmp_path) as store:
        settings = {"web": {"access": "oidc"}, "oidc": {"issuer": provider.url, "client_id": "node", "roles": ROLES}}
        with serve_page(store, settings) as url:
            answer = bearer((url, store, ""), provider.token("u2", client_id="node"))
            assert (answer.status_code, answer.json()["detail"].partition(";")[0]) == (
                401, "the provider's token is expired",
            )  # fmt: skip


def test_without_the_provider_nobody_new_comes_in_and_the_page_says_why(new_store: NewStore, tmp_path: Path) -> None:
    settings = {"web": {"access": "oidc"}, "oidc": {"issuer": "http://127.0.0.1:9", "roles": ROLES}}
    with new_store(tmp_path) as store, serve_page(store, settings) as url, Reader(url) as reader:
        began = time.monotonic()
        answer = reader.get("/sign-in/oidc")
        assert (answer.status_code, "127.0.0.1:9" in answer.text) == (503, True)
        assert time.monotonic() - began < 30
        assert bearer((url, store, ""), "a.b.c").status_code == 503


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web: {access: oidc}", "oidc.issuer"),
        ("web: {access: oidc}\noidc: {issuer: 'http://login.example.org'}", "https"),
        ("web: {access: oidc}\noidc: {issuer: 'https://login.example.org', roles: {x: king}}", "reviewer"),
        ("web: {access: oidc}\noidc: {issuer: 'https://login.example.org', scope: profile}", "scope"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings(path, {})

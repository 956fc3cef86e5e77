"""Signing in with npm's oidc-provider: PKCE, a secret, new keys, clocks that differ, outages, signing out."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest

from dicom_node import app
from dicom_node.access import oidc
from dicom_node.access.errors import ProviderError
from dicom_node.app import web
from dicom_node.settings import Settings
from dicom_node.store import Store
from tests.access.npm_provider import CONFIDENTIAL, PUBLIC, SECRET, NpmProvider, free_port, new_key, start_npm_provider
from tests.access.test_oidc import leave
from tests.new_store import NewStore
from tests.page.serving import Reader, serve_page

PEOPLE = {
    "u1": {"preferred_username": "A. Example", "roles": ["reviewer", "staff"]},
    "u2": {"preferred_username": "B. Example", "roles": ["staff"]},
}


@contextmanager
def serve(store: Store, port: int, **settings: Any) -> Iterator[str]:
    chosen = {"issuer": f"http://127.0.0.1:{port}", "client_id": PUBLIC} | settings
    with serve_page(store, {"web": {"access": "oidc"}, "oidc": chosen}) as url:
        yield url


def come_in(url: str, provider: NpmProvider, login: str = "u1") -> tuple[int, str]:
    """Sign in from the first page to the last; return the status and the text of where it ends."""
    with Reader(url) as reader:
        back = urlsplit(provider.sign_in(leave(reader), login))
        answer = reader.get(f"{back.path}?{back.query}")
        return answer.status_code, reader.get("/sign-in").text if answer.status_code == 303 else answer.text


def test_people_sign_in_with_pkce_with_and_without_a_secret(
    new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_SECRET", SECRET)
    port, key = free_port(), new_key("k1")
    with (
        new_store(tmp_path) as store,
        serve(store, port) as url,
        serve(store, port, client_id=CONFIDENTIAL, client_secret_env="OIDC_SECRET") as other,
        start_npm_provider(PEOPLE, port=port, callbacks=[url, other], keys=[key]) as provider,
    ):
        for each in (url, other):
            status, page = come_in(each, provider)
            assert (status, "<strong>A. Example</strong>, with the role <strong>reviewer" in page) == (303, True), page
        status, page = come_in(url, provider, "u2")
        assert (status, "B. Example has no role at this node" in page) == (403, True)
        monkeypatch.setenv("OIDC_SECRET", "another secret of more than thirty-two characters")
        assert come_in(other, provider)[0] == 503
        assert_pkce_is_wanted(url, provider)


def assert_pkce_is_wanted(url: str, provider: NpmProvider) -> None:
    """Whoever has the code and not the verifier of the browser that asked gets nothing; nor who leaves PKCE out."""
    with Reader(url) as reader:
        address = leave(reader)
        back = urlsplit(provider.sign_in(address, "u1"))
        kept = reader.client.cookies["dicom_node_oidc"]
        state, nonce, rest = kept.split(".", 2)
        reader.client.cookies.clear()
        reader.client.cookies.set("dicom_node_oidc", f"{state}.{nonce}.{'x' * 64}!{rest.partition('!')[2]}")
        assert reader.get(f"{back.path}?{back.query}").status_code == 401
    parts = urlsplit(address)
    query = {name: value for name, (value,) in parse_qs(parts.query).items() if not name.startswith("code_challenge")}
    back = urlsplit(provider.sign_in(urlunsplit(parts._replace(query=urlencode(query))), "u1"))
    assert parse_qs(back.query)["error"] == ["invalid_request"]


def test_new_keys_of_the_provider_count_at_once_and_old_ones_no_longer(
    new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, first, second = free_port(), new_key("k1"), new_key("k2")
    with new_store(tmp_path) as store, serve(store, port) as url:
        with start_npm_provider(PEOPLE, port=port, callbacks=[url], keys=[first]) as provider:
            assert come_in(url, provider)[0] == 303
        assert_the_outage_is_said(url)
        monkeypatch.setattr(oidc, "KEYS_S", 0.0)  # else keys are asked for once a minute
        with start_npm_provider(PEOPLE, port=port, callbacks=[url], keys=[second]) as provider:
            time.sleep(0.1)
            assert come_in(url, provider)[0] == 303
        with start_npm_provider(PEOPLE, port=port, callbacks=[url], keys=[first]) as provider:
            assert come_in(url, provider)[0] == 303  # k1 is fetched again, and k2 is forgotten


def assert_the_outage_is_said(url: str) -> None:
    """The node knows what the provider said of itself, so people get as far as the provider, which is not there."""
    with Reader(url) as reader:
        assert reader.get("/sign-in").status_code == 200
        state = parse_qs(urlsplit(leave(reader)).query)["state"][0]
        answer = reader.get(f"/sign-in/callback?code=x&state={state}")
        assert (answer.status_code, "cannot be asked" in answer.text) == (503, True)


@pytest.mark.parametrize(("skew_s", "status"), [(45.0, 303), (-45.0, 303), (600.0, 401)])
def test_clocks_may_differ_by_less_than_a_minute(
    new_store: NewStore, tmp_path: Path, skew_s: float, status: int
) -> None:
    port = free_port()
    with (
        new_store(tmp_path) as store,
        serve(store, port) as url,
        start_npm_provider(PEOPLE, port=port, callbacks=[url], keys=[new_key("k1")], skew_s=skew_s) as provider,
    ):
        found, page = come_in(url, provider)
        assert found == status, page
        assert ("clock" in page) is (status == 401)


def test_a_node_starts_without_its_provider_and_says_so_until_it_is_there(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, new_store: NewStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(web, "PROVIDER_WATCH_S", 0.05)
    is_away = threading.Event()
    settings = Settings.model_validate({"web": {"access": "oidc"}, "oidc": {"issuer": "http://127.0.0.1:9"}})
    with new_store(tmp_path) as store, caplog.at_level(logging.INFO):
        gatekeeper = app.web_gatekeeper(settings, store)
        part = Store.announce(tmp_path / "parts", "web", datetime.now(UTC))
        with web.watched_provider(gatekeeper, part):
            wait_for(lambda: part.trouble is not None)
            trouble = part.trouble
            assert trouble is not None
            assert (trouble.about, trouble.code, "127.0.0.1:9" in trouble.message) == ("oidc", "provider", True)
            assert gatekeeper.identifier is not None
            monkeypatch.setattr(gatekeeper.identifier.provider, "check", is_away.clear)
            wait_for(lambda: part.trouble is None)
        part.end()
    said = [record.getMessage() for record in caplog.records if "provider" in record.getMessage()]
    assert said == ["nobody can sign in by the provider", "people can sign in by the provider again"]


def wait_for(condition: Any) -> None:
    end_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_at
        time.sleep(0.02)


def test_a_provider_that_hangs_holds_up_one_request_and_not_all() -> None:
    """Anybody may send what looks like a token of the provider: the threads of the server must not wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings.model_validate(
            {"web": {"access": "oidc"}, "oidc": {"issuer": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        )
        provider = app.oidc_provider(settings)
        waited: list[float] = []

        def ask() -> None:
            began = time.monotonic()
            with pytest.raises(ProviderError):
                provider.by_token("a.b.c")
            waited.append(time.monotonic() - began)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(waited)[-2] < oidc.TIMEOUT_S / 2, "one waits for the answer"
    began = time.monotonic()
    with pytest.raises(ProviderError):
        provider.by_token("a.b.c")
    assert time.monotonic() - began < 1.0, "what failed a moment ago is not tried again"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_an_address_without_tls_of_a_provider_with_tls_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate(
        {"web": {"access": "oidc"}, "oidc": {"issuer": "https://login.example.org", "client_id": "node"}}
    )
    provider = app.oidc_provider(settings)
    said = {"issuer": "https://login.example.org", name: "http://login.example.org/x"}
    monkeypatch.setattr(provider, "_ask", lambda *_: said)
    with pytest.raises(ProviderError, match=f"its {name} is not called over https"):
        provider._said(name)

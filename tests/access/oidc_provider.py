"""An OpenID Connect provider in a process of its own (oidc-provider-mock, made of Authlib)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

START_TIMEOUT_S = 60.0
ELSEWHERE = "http://127.0.0.1:1/"


@dataclass(frozen=True)
class Provider:
    """A started provider."""

    url: str

    def sign_in(self, address: str, subject: str, *, action: str = "authorize") -> str:
        """Do what a person does at the address; return where their browser is sent."""
        answer = httpx.post(address, data={"sub": subject, "action": action}, trust_env=False, timeout=30)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def token(self, subject: str, *, client_id: str) -> str:
        """A signed token of a person for a client."""
        query = {
            "response_type": "code", "client_id": client_id, "redirect_uri": ELSEWHERE, "scope": "openid profile",
            "state": "s", "nonce": "n",
        }  # fmt: skip
        back = urlsplit(self.sign_in(f"{self.url}/oauth2/authorize?{urlencode(query)}", subject))
        form = {
            "grant_type": "authorization_code", "code": parse_qs(back.query)["code"][0],
            "redirect_uri": ELSEWHERE, "client_id": client_id,
        }  # fmt: skip
        answer = httpx.post(f"{self.url}/oauth2/token", data=form, auth=(client_id, "x"), trust_env=False, timeout=30)
        return answer.json()["id_token"]


@contextmanager
def start_provider(people: Mapping[str, Mapping[str, Any]], *, token_max_age: int = 3600) -> Iterator[Provider]:
    """Start a provider that knows people by their subject, with claims."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    claims = [f"--user-claims={json.dumps({'sub': subject, **rest})}" for subject, rest in people.items()]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "-e", str(token_max_age)]
    process = subprocess.Popen([*command, *claims], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        end_at = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if httpx.get(f"{url}/.well-known/openid-configuration", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, "the provider has ended"
                assert time.monotonic() < end_at, "the provider does not start"
                time.sleep(0.1)
        yield Provider(url)
    finally:
        process.terminate()
        process.wait(30)

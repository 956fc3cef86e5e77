"""npm's oidc-provider in a process of its own, which wants PKCE, and people who sign in there without scripts."""

from __future__ import annotations

import json
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from joserfc.jwk import RSAKey

HERE = Path(__file__).with_name("oidc_server")
MODULES = Path(__file__).parents[2] / "build" / "oidc-provider" / "node_modules"
START_TIMEOUT_S = 120.0
PUBLIC, CONFIDENTIAL, SECRET = "node", "node-with-secret", "a secret of more than thirty-two characters"


def new_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, parameters={"kid": kid, "use": "sig", "alg": "RS256"})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class NpmProvider:
    """A started provider."""

    url: str

    def sign_in(self, address: str, login: str) -> str:
        """Do what a person does at the address, without scripts; return where the browser is sent in the end."""
        with httpx.Client(trust_env=False, timeout=60) as browser:
            answer = browser.get(address)
            for _ in range(12):
                if answer.is_redirect:
                    address = urljoin(str(answer.url), answer.headers["location"])
                    if not address.startswith(self.url):
                        return address
                    answer = browser.get(address)
                    continue
                form = re.search(r'<form[^>]*action="([^"]*)".*?name="prompt" value="(\w+)"', answer.text, re.DOTALL)
                assert form is not None, f"{answer.status_code} {answer.text[:600]}"
                fields = {"prompt": form[2]} | ({"login": login, "password": "x"} if form[2] == "login" else {})
                answer = browser.post(urljoin(str(answer.url), form[1]), data=fields)
        raise AssertionError("the provider sends people round in circles")


@contextmanager
def start_npm_provider(
    people: Mapping[str, Mapping[str, Any]],
    *,
    port: int,
    callbacks: Sequence[str],
    keys: Sequence[RSAKey],
    skew_s: float = 0.0,
) -> Iterator[NpmProvider]:
    """Start the provider; the test is skipped, by name, where it is not installed.

    Parameters
    ----------
    keys
        The first one signs.
    skew_s
        How far its clock is ahead.
    """
    node = shutil.which("node")
    if node is None or not (MODULES / "oidc-provider").is_dir():
        pytest.skip("no oidc-provider: make peers-oidc, with Node.js and npm")
    client = {
        "redirect_uris": [f"{callback}/sign-in/callback" for callback in callbacks],
        "post_logout_redirect_uris": [f"{callback}/sign-in" for callback in callbacks],
        "id_token_signed_response_alg": "RS256",
    }
    given = {
        "modules": str(MODULES),
        "port": port,
        "skew_s": skew_s,
        "people": people,
        "keys": [key.as_dict(private=True) for key in keys],
        "clients": [
            {"client_id": PUBLIC, "token_endpoint_auth_method": "none", **client},
            {"client_id": CONFIDENTIAL, "client_secret": SECRET, **client},
        ],
    }
    process = subprocess.Popen(
        [node, HERE / "server.mjs", json.dumps(given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        end_at = time.monotonic() + START_TIMEOUT_S
        while not select.select([process.stdout], [], [], 0.2)[0]:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end_at, "the provider does not start"
        assert process.stdout.readline() == "ready\n", process.communicate()
        yield NpmProvider(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.communicate(timeout=30)

"""config/nginx/dicom-node.conf, as it is, in front of a node with the settings of docs/deploy.md."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from tests.access.conftest import LockedNode, locked_node
from tests.certificates import Authority
from tests.new_store import NewStore
from tests.page.serving import serve_page
from tests.peer_servers import free_port, start_nginx_servers

ROOT = Path(__file__).parents[2]
NAME = "imaging.example.org"
FORGED = "203.0.113.66"

pytestmark = pytest.mark.peers


@dataclass(frozen=True)
class Proxied:
    """A node with a proxy in front of it."""

    node: LockedNode
    authority: Authority
    tls_port: int
    plain_port: int

    def client(self, *, address: str, token: str | None = None, **headers: str) -> httpx.Client:
        """Somebody who calls the proxy by its name, from an address of this machine."""
        if token is not None:
            headers["Authorization"] = f"Bearer {self.node.tokens[token]}"
        transport = httpx.HTTPTransport(
            local_address=address, verify=ssl.create_default_context(cafile=str(self.authority.path))
        )
        client = httpx.Client(
            base_url=f"https://127.0.0.1:{self.tls_port}", transport=transport, timeout=60,
            headers={"Host": NAME, **headers},
        )  # fmt: skip
        client.event_hooks["request"].append(lambda request: request.extensions.update(sni_hostname=NAME))
        return client


def documented_settings() -> dict[str, object]:
    """Settings of the section on HTTPS."""
    section = (ROOT / "docs/deploy.md").read_text().partition("\n## HTTPS\n")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def servers(authority: Authority, *, node_port: int, tls_port: int, plain_port: int) -> str:
    """The file that is shipped; only ports and the files of the certificate are those of this test."""
    own = authority.issue("proxy", host_names=(NAME,))
    text = (ROOT / "config/nginx/dicom-node.conf").read_text()
    for before, after in (
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"), ("listen [::]:80;", ""),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{tls_port} ssl http2;"), ("listen [::]:443 ssl http2;", ""),
        ("/etc/nginx/imaging.pem", str(own.certificate)), ("/etc/nginx/imaging.key", str(own.key)),
        ("http://127.0.0.1:8080", f"http://127.0.0.1:{node_port}"),
    ):  # fmt: skip
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def proxied(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = Authority(folder / "certificates")
    tls_port, plain_port = free_port(), free_port()
    settings = documented_settings()
    settings["web"]["stow"] = True
    with new_store(folder / "store") as store, serve_page(store, settings) as url:
        node_port = int(url.rpartition(":")[2])
        text = servers(authority, node_port=node_port, tls_port=tls_port, plain_port=plain_port)
        with start_nginx_servers(folder, text, port=tls_port):
            yield Proxied(locked_node(url, store), authority, tls_port, plain_port)


def test_who_comes_without_tls_is_sent_to_it(proxied: Proxied) -> None:
    answer = httpx.get(f"http://127.0.0.1:{proxied.plain_port}/studies?q=1", headers={"Host": NAME}, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://{NAME}/studies?q=1")


def test_people_sign_in_with_cookies_for_tls_only(proxied: Proxied) -> None:
    with proxied.client(address="127.0.0.2", Origin=f"https://{NAME}") as client:
        form = client.get("/sign-in")
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text))
        known = {"access_token": proxied.node.tokens["viewer"]}
        assert client.post("/sign-in", data={**hidden, "token": hidden["token"][::-1], **known}).status_code == 403
        answer = client.post("/sign-in", data={**hidden, **known})
        assert answer.status_code == 303, answer.text
        cookies = form.headers.get_list("set-cookie") + answer.headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert {"secure", "httponly"} <= set(cookie.lower().split("; ")), cookie
        page = client.get("/studies")
        assert page.status_code == 200
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        assert "the viewer" in page.text
    assert ("the viewer", "127.0.0.2") in {
        (entry.actor, entry.detail.get("address")) for entry in proxied.node.store.audit.list(action="signed-in")
    }


def test_a_form_of_another_site_is_refused(proxied: Proxied) -> None:
    with proxied.client(address="127.0.0.2", Origin="https://evil.example") as client:
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', client.get("/sign-in").text))
        answer = client.post("/sign-in", data={**hidden, "access_token": proxied.node.tokens["viewer"]})
    assert (answer.status_code, "foreign-request" in answer.text) == (403, True)


def test_a_form_with_a_changed_token_is_refused(proxied: Proxied) -> None:
    """A scanner that compared two refusals said that the token is not checked."""
    with proxied.client(address="127.0.0.2", token="reviewer") as client:
        path = f"/studies/{proxied.node.study}"
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', client.get(path).text))
        fields = {**hidden, "kind": "hold", "reason": "a test"}
        refused = client.post(f"{path}/decide", data={**fields, "token": hidden["token"][::-1]})
        assert (refused.status_code, "foreign-request" in refused.text) == (403, True)
        assert client.post(f"{path}/decide", data=fields).status_code == 303


def test_another_name_is_refused(proxied: Proxied) -> None:
    with proxied.client(address="127.0.0.2", token="viewer") as client:
        assert client.get("/api/studies").status_code == 200
        assert client.get("/api/studies", headers={"Host": "evil.example"}).status_code == 403


def test_wrong_tokens_keep_out_their_address_and_nobody_else(proxied: Proxied) -> None:
    with proxied.client(address="127.0.0.6", token="wrong") as client:
        answers = [client.get("/api/work", headers={"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(25)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) > 0
    with proxied.client(address="127.0.0.7", token="viewer") as client:
        assert client.get("/api/work").status_code == 200, "the proxy's address is not what counts"
    assert ("unknown", "127.0.0.6") in proxied.node.audited("sign-in-failed")
    assert not [subject for _, subject in proxied.node.audited("sign-in-failed") if subject.startswith("203.")]


def test_who_is_no_proxy_cannot_say_to_be_somebody_else(proxied: Proxied) -> None:
    """The node trusts 127.0.0.1; this one calls the node itself, from another address of the machine."""
    with proxied.node.client("wrong", address="127.0.0.8") as client:
        assert client.get("/api/work", headers={"X-Forwarded-For": FORGED}).status_code == 401
    failed = {subject for _, subject in proxied.node.audited("sign-in-failed")}
    assert "127.0.0.8" in failed
    assert FORGED not in failed


def test_without_proxies_nobody_is_believed_not_even_this_machine(
    new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # of uvicorn
    with new_store(tmp_path) as store, serve_page(store, {"web": {"access": "tokens"}}) as url:
        node = locked_node(url, store)
        with node.client("wrong") as client:
            answers = [client.get("/api/work", headers={"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(25)]
        assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 5
        assert node.audited("sign-in-failed") == [("unknown", "127.0.0.1")]


def test_long_bodies_pass_the_proxy(proxied: Proxied) -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + b"\0" * 3_000_000 + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    with proxied.client(address="127.0.0.2", token="sender") as client:
        answer = client.post("/dicom-web/studies", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 409, "the node has read it and found no DICOM; nginx alone answers 413"


def test_addresses_in_answers_are_those_of_the_proxy(proxied: Proxied) -> None:
    with proxied.client(address="127.0.0.2", token="viewer") as client:
        (found, *_) = client.get("/dicom-web/studies").json()
    assert found["00081190"]["Value"][0].startswith(f"https://{NAME}/dicom-web/studies/")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(proxied: Proxied, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(proxied.authority.path))
    context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, trust_env=False) as client:
        url = f"https://127.0.0.1:{proxied.tls_port}/health/live"
        answer = client.get(url, headers={"Host": NAME}, extensions={"sni_hostname": NAME})
    assert answer.status_code == 200

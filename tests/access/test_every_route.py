"""What a refusal looks like, and the names by which the node may be called."""

from __future__ import annotations

import re

import httpx
import pytest

from dicom_node.access.roles import Right
from dicom_node.access.table import RIGHTS_OF_ROUTES
from tests.access.conftest import LockedNode

VALUES = {"study": "1.2", "series": "1.2.3", "instance": "1.2.3.4", "frames": "1", "job": "9", "delivery": "9",
          "action": "cancel", "stack": "1", "name": "overlay.png", "path": "7FE00010"}  # fmt: skip
LOCKED = {line: right for line, right in RIGHTS_OF_ROUTES.items() if right is not Right.ANYONE}


def ask(client: httpx.Client, line: str) -> httpx.Response:
    """Send a request to a route; nothing that it names is there."""
    method, path = line.split(" ")
    path = re.sub(r"{(\w+)(:path)?}", lambda match: VALUES[match[1]], path)
    return client.request("OPTIONS" if method == "*" else method, path)


def code(answer: httpx.Response) -> str:
    """The stable code of a refusal, in JSON or on a page."""
    found = re.search(r'"code":"([\w-]+)"|\(([\w-]+)\)</span>', answer.text)
    return "" if found is None else found[1] or found[2]


def test_wrong_tokens_are_counted_and_then_not_looked_at(node: LockedNode) -> None:
    with node.client("wrong", address="127.0.0.4") as client:
        answers = [ask(client, line) for line in list(LOCKED)[:25]]
        assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 5
        assert 0 < int(answers[-1].headers["retry-after"]) <= 61
    with node.client("admin", address="127.0.0.4") as client:
        assert client.get("/api/work").status_code == 429  # the right one is not looked at either
    with node.client("admin") as client:
        assert client.get("/api/work").status_code == 200  # from another address
    # One line at once, the others are summed up after a minute.
    assert node.audited("sign-in-failed").count(("unknown", "127.0.0.4")) == 1


def test_without_a_token_programs_get_401_and_people_the_form(node: LockedNode) -> None:
    with node.client() as client:
        for line in LOCKED:
            answer = ask(client, line)
            method, path = line.split(" ")
            if path.startswith(("/api", "/dicom-web", "/wado", "/metrics")) or method == "POST":
                assert (answer.status_code, code(answer)) == (401, "not-signed-in"), line
                assert answer.headers["www-authenticate"] == 'Bearer realm="dicom-node"'
            else:
                assert answer.status_code == 303, line
                assert answer.headers["location"].startswith("/sign-in?next=%2F"), line


def test_other_methods_need_a_token_too(node: LockedNode) -> None:
    with node.client() as client:
        assert client.put("/dicom-web/studies").status_code == 401
        assert client.head("/dicom-web/studies").status_code == 401
        assert client.request("FRY", "/dicom-web/studies").status_code in (401, 405)


def test_what_anybody_may_says_nothing_of_patients(node: LockedNode) -> None:
    with node.client() as client:
        for line in sorted(set(RIGHTS_OF_ROUTES) - set(LOCKED)):
            answer = ask(client, line)
            assert "MRN-123456" not in answer.text
            assert "Zyxwvut" not in answer.text
        assert client.get("/health/live").status_code == 200
        assert client.get("/assets/page.css").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1"])
def test_a_node_that_is_called_by_a_foreign_name_shows_nothing(node: LockedNode, host: str) -> None:
    with node.client("admin") as client:
        for path in ("/api/studies", "/dicom-web/studies", "/studies", "/wado"):
            answer = client.get(path, headers={"Host": host})
            assert answer.status_code in (400, 403), path
            assert node.study not in answer.text
        assert client.get("/health/live", headers={"Host": host or "x"}).status_code in (200, 400)


@pytest.mark.parametrize(
    "host", ["node.example.org", "NODE.example.org:443", "localhost", "192.0.2.7:8080", "[::1]:80"]
)
def test_its_own_names_and_addresses_are_known(node: LockedNode, host: str) -> None:
    with node.client("viewer") as client:
        assert client.get("/api/studies", headers={"Host": host}).status_code == 200

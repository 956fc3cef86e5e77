"""Every route of the application × every way to be nobody, somebody else, or somebody with a role."""

from __future__ import annotations

import http.client
import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dicom_node.access.callers import Caller
from dicom_node.access.gatekeeper import COOKIE, Gatekeeper
from dicom_node.access.identify import Identifier
from dicom_node.access.origins import Origins
from dicom_node.access.roles import Right, Role
from dicom_node.access.table import RIGHTS_OF_ROUTES, right_of_route
from dicom_node.settings import Settings
from dicom_node.store import Store
from tests.access.conftest import SETTINGS, LockedNode, add_token, locked_node
from tests.access.key_holder import CLIENT, KeyHolder, start_key_holder
from tests.new_store import NewStore
from tests.page.serving import serve_page, web_app

MAY: dict[Right, set[str]] = {
    Right.METRICS: {"monitor", "viewer", "reviewer", "exporter", "admin"},
    Right.STORE: {"sender", "reviewer", "exporter", "admin"},
    Right.READ: {"viewer", "reviewer", "exporter", "admin"},
    Right.DECIDE: {"reviewer", "exporter", "admin"},
    Right.SEND: {"exporter", "admin"},
    Right.MANAGE: {"admin"},
}
VALUES = {"study": "1.2", "series": "1.2.3", "instance": "1.2.3.4", "frames": "1", "job": "9", "delivery": "9",
          "action": "cancel", "stack": "1", "name": "overlay.png", "path": "7FE00010"}  # fmt: skip
REFUSALS = {"not-signed-in", "not-permitted", "no-role", "foreign-request", "closed-route", "too-many-failures"}
KNOCKS_PER_ADDRESS = 15  # wrong tokens are counted by address, and no longer looked at after 20
BODIES = {
    "POST /upload": (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
    )
}
PROGRAMS = ("POST /api/upload", "POST /dicom-web")  # all other POST routes are of forms, or take JSON only
LOOPBACK = itertools.count(257 * KNOCKS_PER_ADDRESS)


@dataclass(frozen=True)
class Answer:
    status: int
    code: str
    headers: http.client.HTTPMessage
    text: str

    @property
    def finding(self) -> str:
        """The code of a refusal; "open" if the door is."""
        if self.status == 303 and self.headers["location"].startswith("/sign-in?next="):
            return "not-signed-in"
        return self.code if self.code in REFUSALS else "open"


@dataclass(frozen=True)
class Building:
    """A node, all of its doors, and the provider."""

    node: LockedNode
    routes: tuple[str, ...]
    provider: KeyHolder
    keys: dict[str, str]  # every token and cookie by its name

    def knock(self, line: str, **headers: str) -> Answer:
        """Send a request to a route; nothing that it names is there."""
        method, path = line.split(" ")
        path = re.sub(r"{(\w+)(:path)?}", lambda match: VALUES[match[1]], path)
        number = next(LOOPBACK) // KNOCKS_PER_ADDRESS
        source = f"127.{1 + number // 65536}.{number // 256 % 256}.{number % 256}"
        url = urlsplit(self.node.url)
        connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=60, source_address=(source, 0))
        try:
            body, media_type = BODIES.get(line, (None, "text/plain"))
            sent = {name.replace("_", "-"): value for name, value in ({"Content_Type": media_type} | headers).items()}
            connection.request("OPTIONS" if method == "*" else method, path, body=body, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        found = re.search(r'"code":\s*"([\w-]+)"|\(([\w-]+)\)</span>', text)
        return Answer(answer.status, "" if found is None else found[1] or found[2], answer.headers, text)

    def changing(self) -> list[str]:
        """The routes that may change something and are not for everybody."""
        return [line for line in self.routes if right_of(line) is not Right.ANYONE and line.split()[0] in CHANGE]


CHANGE = ("POST", "PUT", "PATCH", "DELETE")


def right_of(line: str) -> Right:
    right = right_of_route(*line.split(" "))
    assert right is not None, f"{line} has no line in dicom_node/access/table.py"
    return right


def doors(app: Any) -> tuple[str, ...]:
    """All routes of an application, as the table of rights has them."""
    while not hasattr(app, "routes"):
        app = app._app
    assert all(isinstance(route, Route) for route in app.routes), "a mount or a socket would pass the gatekeeper"
    found = [
        f"{'*' if len(route.methods) > 3 else method} {route.path}"
        for route in app.routes
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]
    return tuple(dict.fromkeys(found))


@pytest.fixture(scope="module")
def building(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    with start_key_holder() as provider, new_store(tmp_path_factory.mktemp("doors")) as store:
        settings: dict[str, Any] = {
            "web": {**SETTINGS["web"], "access": "oidc"}, "oidc": {"issuer": provider.url, "client_id": CLIENT},
        }  # fmt: skip
        routes = doors(web_app(store, Settings.model_validate(settings)))
        with serve_page(store, settings) as url:
            node = locked_node(url, store)
            yield Building(node, routes, provider, node.tokens | signed(provider) | cookies(store))


def signed(provider: KeyHolder) -> dict[str, str]:
    """Tokens of the provider, and what looks like one."""
    now, stranger = int(time.time()), RSAKey.generate_key(2048)
    return {
        "provider: a viewer": provider.token(roles=["viewer"]),
        "provider: no role": provider.token(roles=["staff"]),
        "provider: other audience": provider.token(aud="somebody-else"),
        "provider: no audience": provider.token(aud=None),
        "provider: other issuer": provider.token(iss="https://login.example.org"),
        "provider: no issuer": provider.token(iss=None),
        "provider: signed by another": provider.token(key=stranger),
        "provider: unknown key": provider.token(key=stranger, kid="k2"),
        "provider: signed with its public key": provider.token_by_its_public_key(),
        "provider: not signed": provider.token_without_signature(),
        "provider: expired": provider.token(exp=now - 120),
        "provider: never expires": provider.token(exp=None),
        "provider: not yet valid": provider.token(nbf=now + 600),
        "provider: issued in the future": provider.token(iat=now + 600),
        "provider: nobody": provider.token(sub=None),
    }


def cookies(store: Store) -> dict[str, str]:
    """Sessions, as the identifier begins them."""
    begin = Identifier(store).begin_session
    _, lost = add_token(store, "lost her token", Role.ADMIN)
    found = {
        "session of a viewer": begin(Caller("the viewer", Role.VIEWER), "127.0.0.1"),
        "session of an administrator": begin(Caller("the admin", Role.ADMIN), "127.0.0.1"),
        "session of a revoked token": begin(Caller("lost her token", Role.ADMIN, lost), "127.0.0.1"),
        "session that is signed out": begin(Caller("the admin", Role.ADMIN), "127.0.0.1"),
        "session that never was": "0" * 64,
    }
    store.access_tokens.revoke(lost, by="tests", now=datetime.now(UTC))
    Identifier(store).sign_out(found["session that is signed out"])
    return found


# Who knocks → the role whose doors open; "" opens none. What the answer says of those that stay closed.
KNOCKS: dict[str, tuple[str, str]] = {
    "nothing": ("", "not-signed-in"),
    "wrong": ("", "not-signed-in"),
    "expired": ("", "not-signed-in"),
    "revoked": ("", "not-signed-in"),
    **{role.value: (role.value, "not-permitted") for role in Role},
    "provider: a viewer": ("viewer", "not-permitted"),
    "provider: no role": ("", "no-role"),
    **dict.fromkeys(
        (
            "provider: other audience",
            "provider: no audience",
            "provider: other issuer",
            "provider: no issuer",
            "provider: signed by another",
            "provider: unknown key",
            "provider: signed with its public key",
            "provider: not signed",
            "provider: expired",
            "provider: never expires",
            "provider: not yet valid",
            "provider: issued in the future",
            "provider: nobody",
        ),
        ("", "not-signed-in"),
    ),
    "session of a viewer": ("viewer", "not-permitted"),
    "session of an administrator": ("admin", "not-permitted"),
    "session of a revoked token": ("", "not-signed-in"),
    "session that is signed out": ("", "not-signed-in"),
    "session that never was": ("", "not-signed-in"),
}


def shown(building: Building, who: str) -> dict[str, str]:
    """The header with which somebody shows who they are."""
    if who == "nothing":
        return {}
    if who.startswith("session"):
        return {"Cookie": f"{COOKIE}={building.keys[who]}"}
    return {"Authorization": f"Bearer {building.keys[who]}"}


def test_every_door_has_a_right_and_every_right_a_door(building: Building) -> None:
    assert set(building.routes) == set(RIGHTS_OF_ROUTES), "dicom_node/access/table.py says which right a route needs"
    assert set(building.keys) | {"nothing"} == set(KNOCKS)


@pytest.mark.parametrize("who", KNOCKS)
def test_a_door_opens_to_the_roles_that_have_its_right_and_to_nobody_else(building: Building, who: str) -> None:
    role, refusal = KNOCKS[who]
    wrong, refused = {}, set()
    for line in building.routes:
        right = right_of(line)
        if right is Right.ANYONE:
            continue
        answer = building.knock(line, **shown(building, who))
        is_form = line.startswith("POST") and not line.startswith(PROGRAMS)  # and its token is missing
        expected = refusal if role not in MAY[right] else "foreign-request" if is_form else "open"
        if answer.finding != expected:
            wrong[line] = answer
        if expected == "not-permitted":
            refused.add(line.replace("*", "OPTIONS"))
        assert answer.finding == "open" or "MRN-123456" not in answer.text
        assert answer.headers["set-cookie"] is None or COOKIE not in answer.headers["set-cookie"]
    assert wrong == {}
    if who in set(Role):
        assert refused <= {
            subject for actor, subject in building.node.audited("not-permitted") if actor == f"the {who}"
        }


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
    ],
    ids=str,
)
def test_a_page_of_another_site_opens_no_door_with_the_session_of_an_administrator(
    building: Building, sent: dict[str, str]
) -> None:
    session = shown(building, "session of an administrator")
    answers = {line: building.knock(line, **session, **sent).finding for line in building.changing()}
    assert len(answers) > 8
    assert set(answers.values()) == {"foreign-request"}, answers


def test_doors_for_everybody_show_nobody_and_let_nobody_in(building: Building) -> None:
    for line in building.routes:
        if right_of(line) is Right.ANYONE:
            answer = building.knock(line)
            expected = {"GET /sign-in/callback": 401, "POST /sign-in": 403, "POST /sign-out": 403}
            assert answer.status == expected.get(line, answer.status), line
            assert "MRN-123456" not in answer.text
            assert COOKIE not in (answer.headers["set-cookie"] or ""), line


def test_a_door_without_a_right_is_closed_to_an_administrator(building: Building) -> None:
    """Why a new route cannot be forgotten: the application refuses it, and the first test names it."""
    routes = [Route("/new", lambda _: PlainTextResponse("open"))]
    Gatekeeper(Origins()).guard(routes)
    answer = TestClient(Starlette(routes=routes), base_url="http://127.0.0.1").get("/new")
    assert (answer.status_code, answer.json()["code"]) == (403, "closed-route")
    with pytest.raises(AssertionError, match=r"GET /new has no line in dicom_node/access/table\.py"):
        [right_of(line) for line in doors(Starlette(routes=routes))]

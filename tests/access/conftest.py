"""A node whose web server knows its callers, with a token for each role and some that do not count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from dicom_node.access.roles import Role
from dicom_node.access.tokens import create_token
from dicom_node.store import Store
from tests.export.clearing import looked_at
from tests.new_store import NewStore
from tests.page.serving import serve_page

SETTINGS = {"web": {"access": "tokens", "stow": True, "upload": True, "host_names": ["node.example.org"]}}


@dataclass(frozen=True)
class LockedNode:
    """A node with a study that waits for review."""

    url: str
    store: Store
    study: str
    tokens: dict[str, str]  # by role, and "expired", "revoked" and "wrong"

    def client(self, token: str | None = None, *, address: str = "127.0.0.1") -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {self.tokens.get(token, token)}"}
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, headers=headers, transport=transport, timeout=60)

    def audited(self, action: str) -> list[tuple[str, str]]:
        return [(row.actor, row.subject) for row in self.store.audit.list(limit=5000) if row.action == action]


def add_token(store: Store, name: str, role: Role, *, days_ago: float = 0.0) -> tuple[str, str]:
    """A token and its public part."""
    now = datetime.now(UTC) - timedelta(days=days_ago)
    text, row = create_token(store, name, role, days=90, created_by="tests", now=now)
    return text, row.id


def locked_node(url: str, store: Store) -> LockedNode:
    """A served store, with a token for each role and three that do not count."""
    tokens = {role.value: add_token(store, f"the {role}", role)[0] for role in Role}
    tokens["expired"], _ = add_token(store, "formerly here", Role.ADMIN, days_ago=91)
    tokens["revoked"], revoked = add_token(store, "no longer here", Role.ADMIN)
    store.access_tokens.revoke(revoked, by="tests", now=datetime.now(UTC))
    tokens["wrong"] = tokens["admin"][:-4] + ("0000" if not tokens["admin"].endswith("0000") else "1111")
    study = looked_at(store, "indeterminate", "locked", with_seg=False).study_instance_uid
    return LockedNode(url, store, study, tokens)


@pytest.fixture(scope="module")
def node(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedNode]:
    with new_store(tmp_path_factory.mktemp("locked")) as store, serve_page(store, SETTINGS) as url:
        yield locked_node(url, store)

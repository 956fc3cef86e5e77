"""What was changed in the settings, for the audit trail: recorded when the scheduler starts with others than before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from dicom_node.settings import Settings
from dicom_node.store import Store

ACTION: Final = "settings-changed"
MAX_ENTRIES: Final = 10_000


def record_settings(store: Store, settings: Settings, *, host: str, by: str, now: datetime) -> None:
    """Add an entry with the keys that differ from those of the last start on a host; the first has all of them.

    Parameters
    ----------
    host
        Name of this machine: each has settings of its own.
    by
        The user as whom the node runs.
    """
    before: dict[str, Any] = {}
    for entry in reversed(store.audit.list(subjects=[host], action=ACTION, limit=MAX_ENTRIES)):
        before |= {key: after for key, (_, after) in entry.detail["changed"].items()}
    present = dict(flat_settings(settings))
    keys = sorted(key for key in before.keys() | present.keys() if before.get(key) != present.get(key))
    if keys:
        changed = {key: (before.get(key), present.get(key)) for key in keys}
        store.audit.record(ACTION, actor=by, subject=host, now=now, detail={"changed": changed})


def flat_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the keys of all settings with their values as JSON; of addresses no more than scheme, host and a digest.

    An address may hold a password or a secret path. All other secrets are in the environment.
    """
    yield from _flat("", settings.model_dump(mode="json"))


def _flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), below)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        for one in value:
            yield from _flat(f"{prefix}.{one['name']}", {key: below for key, below in one.items() if key != "name"})
    else:
        yield prefix, json.dumps(_without_secrets(value), ensure_ascii=False)


def _without_secrets(value: object) -> object:
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    digest = hashlib.sha256(value.encode()).hexdigest()[:12]
    return f"{parts.scheme}://{parts.hostname or ''} ({digest})"

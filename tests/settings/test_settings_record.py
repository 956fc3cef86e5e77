"""Changes of the settings are in the audit trail, and no secret of theirs."""

from __future__ import annotations

from pathlib import Path

from dicom_node.settings import Settings
from dicom_node.settings_record import record_settings
from tests.new_store import NewStore
from tests.store.sending import T0

PEER = {"name": "pacs", "kind": "dimse", "ae_title": "PACS", "host": "192.0.2.10", "port": 104}
HOOK = {"name": "hook", "kind": "webhook", "url": "https://hook.example.org/very-secret", "secret_env": "HOOK_SECRET"}


def test_an_entry_names_the_keys_that_changed_since_the_last_start(new_store: NewStore, tmp_path: Path) -> None:
    def start(host: str = "node1", **tree: object) -> None:
        record_settings(store, Settings.model_validate(tree), host=host, by="node", now=T0)

    with new_store(tmp_path) as store:
        start()
        start()  # as before: nothing to say
        start(web={"port": 9090}, peers=[PEER])
        start(web={"port": 9090}, peers=[PEER | {"port": 11112}])
        start(web={"port": 9090})
        start(host="node2", web={"port": 9090})
        entries = store.audit.list(action="settings-changed")
    second, gone, moved, added, first = entries
    assert len(first.detail["changed"]) > 80
    assert added.detail["changed"]["web.port"] == ["8080", "9090"]
    assert added.detail["changed"]["peers.pacs.host"] == [None, '"192.0.2.10"']
    assert moved.detail["changed"] == {"peers.pacs.port": ["104", "11112"]}
    assert gone.detail["changed"]["peers.pacs.ae_title"] == ['"PACS"', None]
    assert (second.subject, second.detail["changed"]["web.port"]) == ("node2", [None, "9090"])
    assert {entry.actor for entry in entries} == {"node"}


def test_secrets_in_addresses_are_not_recorded_and_their_changes_are(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        for password in ("first-password", "other-password"):
            node = {"database_url": f"postgresql://node:{password}@db.example.org/node"}
            settings = Settings.model_validate({"node": node, "notify": [HOOK]})
            record_settings(store, settings, host="h", by="node", now=T0)
        newest, first = store.audit.list(action="settings-changed")
    assert list(newest.detail["changed"]) == ["node.database_url"]
    for entry in (newest, first):
        assert "password" not in str(entry.detail)
        assert "very-secret" not in str(entry.detail)
    assert "https://hook.example.org" in first.detail["changed"]["notify.hook.url"][1]

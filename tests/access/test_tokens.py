"""Tokens by the command line: shown once, kept as a digest, revoked; and what does not start without them."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from dicom_node.settings import SettingsError, load_settings
from dicom_node.store import Store
from tests.cli.conftest import Run, config, run

__all__ = ["config", "run"]


def test_a_token_is_shown_once_and_kept_as_a_digest(run: Run, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = run("tokens", "create", "A. Example", "--role", "reviewer", "--by", "B. Admin", "-c", config)
    assert made.exit_code == 0, made.stderr
    text = made.stdout.strip()
    assert re.fullmatch(r"dnode_[0-9a-f]{12}_[0-9a-f]{64}", text)
    _, token_id, secret = text.split("_")
    (listed,) = json.loads(run("tokens", "list", "--json", "-c", config).stdout)
    assert (listed["id"], listed["person"], listed["role"], listed["created_by"]) == (
        token_id, "A. Example", "reviewer", "B. Admin",
    )  # fmt: skip
    data = config.parent / "data"
    for path in data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in caplog.text
    with Store.open(data) as store:
        row = store.access_tokens.find(token_id)
        assert row is not None
        assert row.secret_digest == hashlib.sha256(secret.encode()).hexdigest()
        assert [(one.actor, one.action) for one in store.audit.list()] == [("B. Admin", "token-created")]


def test_tokens_are_revoked_by_number_or_by_name(run: Run, config: Path) -> None:
    ids = [
        run("tokens", "create", name, "--role", "viewer", "-c", config).stdout.split("_")[1]
        for name in ("anna", "anna", "berta")
    ]
    assert "is revoked" in run("tokens", "revoke", ids[2], "-c", config).stdout
    assert run("tokens", "revoke", "--name", "anna", "-c", config).stdout.count("anna is revoked") == 2
    assert run("tokens", "list", "-c", config).stdout == "no tokens\n"
    assert run("tokens", "list", "--all", "-c", config).stdout.count("revoked") == 3
    assert "has no valid token" in run("tokens", "revoke", "--name", "anna", "-c", config).stdout
    missing = run("tokens", "revoke", "0" * 12, "-c", config)
    assert (missing.exit_code, "no such token" in missing.stderr or "token" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--role", "king"), "king"),
        ((" ", "--role", "viewer"), "the name"),
        (("x", "--role", "viewer", "--days", "0"), "the number of days"),
        (("x\ny", "--role", "viewer"), "the name"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(
    run: Run, config: Path, arguments: tuple[str, ...], words: str
) -> None:
    made = run("tokens", "create", *arguments, "-c", config)
    assert made.exit_code == 2
    assert words in made.stderr
    assert made.stdout == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "node.example.org"])
def test_a_web_server_that_others_reach_does_not_start_without_a_word_on_who_may_use_it(
    run: Run, config: Path, host: str
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["web"]["host"] = host
    config.write_text(yaml.safe_dump(settings))
    refused = run("web", "-c", config)
    assert refused.exit_code == 2
    for word in ("web", host, "web.access to tokens", "dicom-node tokens create", "everyone-in-reach", "127.0.0.1"):
        assert word in refused.stderr
    for access in ("tokens", "everyone-in-reach"):
        assert load_settings(config, {"DICOM_NODE__WEB__ACCESS": access}).web.access == access


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_nothing_has_to_be_said(host: str) -> None:
    assert load_settings(None, {"DICOM_NODE__WEB__HOST": host}).web.access == "this-machine"


def test_unknown_words_for_access_are_refused() -> None:
    with pytest.raises(SettingsError, match="everyone-in-reach"):
        load_settings(None, {"DICOM_NODE__WEB__ACCESS": "nobody"})

"""Asking peers whether they are there."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from dicom_node.dimse import DimseServer
from dicom_node.settings import DimseSettings
from tests.dicomweb.serving import serve
from tests.new_store import NewStore

Run = Callable[..., Result]


@pytest.fixture
def peers(config: Path, new_store: NewStore, tmp_path: Path) -> Iterator[Path]:
    """A settings file with a DIMSE and a DICOMweb peer that answer, and one that does not."""
    with (
        new_store(tmp_path / "peer") as store,
        DimseServer(store, DimseSettings(host="127.0.0.1", port=0), ae_title="PEER") as server,
        serve(store) as url,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        closed_port = listener.getsockname()[1]
        listener.close()
        settings = yaml.safe_load(config.read_text())
        settings["peers"] = [
            {"name": "pacs", "kind": "dimse", "ae_title": "PEER", "host": "127.0.0.1", "port": server.port},
            {"name": "archive", "kind": "dicomweb", "url": f"{url}/dicom-web"},
            {"name": "gone", "kind": "dimse", "ae_title": "PEER", "host": "127.0.0.1", "port": closed_port},
        ]
        config.write_text(yaml.safe_dump(settings))
        yield config


def test_peers_that_answer_are_well(run: Run, peers: Path) -> None:
    result = run("peers", "check", "pacs", "archive", "-c", peers)

    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["pacs", "answers"],
        ["archive", "answers"],
    ]


def test_a_peer_that_does_not_answer_is_named_with_its_code_and_the_rest_is_asked_all_the_same(
    run: Run, peers: Path
) -> None:
    result = run("peers", "check", "-c", peers)

    assert result.exit_code == 3
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert set(lines) == {"pacs", "archive", "gone"}
    assert "peer-unreachable" in lines["gone"]
    assert "answers" in lines["archive"]


def test_json_says_the_same_for_programs(run: Run, peers: Path) -> None:
    checked = json.loads(run("peers", "check", "-c", peers, "--json").stdout)

    assert [(peer["name"], peer["code"]) for peer in checked] == [
        ("pacs", None),
        ("archive", None),
        ("gone", "peer-unreachable"),
    ]


def test_a_name_that_no_peer_has_is_a_usage_error(run: Run, peers: Path) -> None:
    result = run("peers", "check", "pasc", "-c", peers)

    assert result.exit_code == 2
    assert "no peer is named 'pasc'; known peers: archive, gone, pacs" in result.stderr


def test_without_peers_there_is_nothing_to_check(run: Run, config: Path) -> None:
    result = run("peers", "check", "-c", config)

    assert (result.exit_code, result.stdout) == (0, "no peers are configured\n")

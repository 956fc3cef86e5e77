"""The compose files: accepted by Docker Compose, locked down, and in agreement with the node that they run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dicom_node.cli import app
from dicom_node.settings import load_settings
from dicom_node.store import PARTS
from tests.deploy.dockerfile import read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("DICOM_NODE_TEST_TOOLS", Path.home() / ".cache/dicom-node-tests/deploy-tools"))
COMPOSE = shutil.which("docker-compose") or shutil.which(TOOLS / "docker-compose")
SERVER = ROOT / "config" / "compose-server.yaml"

pytestmark = pytest.mark.skipif(COMPOSE is None, reason="no docker-compose: sh tests/deploy/install_tools.sh")


def config(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    argv = [str(COMPOSE), "-f", str(path), "config", "--format", "json"]
    env = os.environ | variables
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)


@pytest.fixture(scope="module")
def server() -> dict[str, Any]:
    shown = config(SERVER)
    assert (shown.returncode, shown.stderr) == (0, "")
    return dict(json.loads(shown.stdout))


def test_compose_accepts_the_small_file_and_refuses_a_wrong_key(tmp_path: Path) -> None:
    small = config(ROOT / "config" / "compose.yaml")
    assert (small.returncode, small.stderr) == (0, "")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(SERVER.read_text().replace("read_only: true", "readonly: true"))
    assert "readonly" in config(wrong).stderr


def test_every_part_runs_by_a_command_that_exists(server: dict[str, Any]) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for part in PARTS:
        assert server["services"][part]["command"] == [part, "-c", "/config/node.yaml"]
        assert part in commands


def test_the_node_accepts_its_settings_and_names_what_is_there(server: dict[str, Any]) -> None:
    for part in PARTS:
        service = server["services"][part]
        _, stages = read_dockerfile(ROOT / "Dockerfile")
        env = dict(word.split("=", 1) for word in stages[-1].last("ENV").split() if word.startswith("DICOM_NODE__"))
        env |= service["environment"]
        if "objects_url" not in type(load_settings(None, {}).node).model_fields:
            env = {name: value for name, value in env.items() if "OBJECTS" not in name}
        settings = load_settings(ROOT / "config" / "node.yaml", env)
        assert str(settings.node.data_dir) == "/data"
        assert settings.web.access == "tokens"
        published = {port["target"] for port in service.get("ports", ())}
        assert published == {"receive": {settings.dimse.port}, "web": {settings.web.port}}.get(part, set())
    url = service["environment"]["DICOM_NODE__OBJECTS__ENDPOINT_URL"]
    host, port = url.removeprefix("http://").split(":")
    assert f"--port :{port}" in " ".join(server["services"][host]["command"])


def test_a_proxy_on_the_machine_is_believed_once_it_is_named(server: dict[str, Any]) -> None:
    named = json.loads(config(SERVER, WEB_PROXY="172.18.0.1").stdout)
    for shown, proxies in ((server, ()), (named, ("172.18.0.1/32",))):
        env = {"DICOM_NODE__WEB__PROXIES": shown["services"]["web"]["environment"]["DICOM_NODE__WEB__PROXIES"]}
        assert load_settings(None, env).web.proxies == proxies


def test_parts_have_no_rights_and_write_their_data_only(server: dict[str, Any]) -> None:
    for part in PARTS:
        service = server["services"][part]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["mem_limit"]) > 0
        writable = {each["target"] for each in service["volumes"] if not each.get("read_only")}
        assert writable == {"/data"}
        assert {each["source"] for each in service["volumes"] if each["target"] == "/data"} == {f"{part}-data"}


def test_secrets_are_files_named_as_the_variables_that_they_become(server: dict[str, Any]) -> None:
    for part in PARTS:
        service = server["services"][part]
        assert service["environment"]["CREDENTIALS_DIRECTORY"] == "/run/secrets"
        targets = {Path(each.get("target") or each["source"]).name for each in service["secrets"]}
        assert targets == {"DICOM_NODE__NODE__DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {Path(each["file"]).parent for each in server["secrets"].values()} == {ROOT / "config" / "secrets"}


def test_database_and_objects_are_reached_by_the_node_only(server: dict[str, Any]) -> None:
    assert server["networks"]["inside"]["internal"] is True
    for name in ("database", "objects"):
        assert set(server["services"][name]["networks"]) == {"inside"}
        assert "ports" not in server["services"][name]
    assert server["services"]["web"]["ports"][0]["host_ip"] == "127.0.0.1"

"""Listing, taking in and verifying models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from inference.models import read_model_spec
from tests.tiny_models import write_tiny_model

Run = Callable[..., Result]


@pytest.fixture
def config_with_models(config: Path, tmp_path: Path) -> Path:
    """Settings that name two tiny models."""
    settings = yaml.safe_load(config.read_text())
    settings["models"] = {
        role: str(write_tiny_model(tmp_path / role, role, above=0.0)) for role in ("foreground", "anonymized")
    }
    config.write_text(yaml.safe_dump(settings))
    return config


def test_the_models_in_use_are_listed(run: Run, config_with_models: Path, tmp_path: Path) -> None:
    lines = run("models", "list", "-c", config_with_models).stdout.splitlines()
    listed = json.loads(run("models", "list", "-c", config_with_models, "--json").stdout)

    assert [line.split()[:3] for line in lines[1:]] == [
        ["foreground", "tiny-foreground", "0.0.1"],
        ["anonymized", "tiny-anonymized", "0.0.1"],
    ]
    assert [model["folder"] for model in listed] == [str(tmp_path / "foreground"), str(tmp_path / "anonymized")]
    assert listed[1]["labels"] == {"removed": [1], "altered": [2]}


def test_a_changed_file_is_found_by_verify(run: Run, config_with_models: Path, tmp_path: Path) -> None:
    assert run("models", "verify", "-c", config_with_models).exit_code == 0
    plans = tmp_path / "anonymized" / "plans.json"
    plans.write_text(plans.read_text() + " ")

    result = run("models", "verify", "-c", config_with_models)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: model file {plans}")


def test_a_plain_export_is_taken_in_and_can_be_used(run: Run, config: Path, tmp_path: Path) -> None:
    export = write_tiny_model(tmp_path / "export", "foreground", above=0.0, with_yaml=False, labels={"body": 1})

    result = run("models", "add", "foreground", export, "--to", tmp_path / "taken", "--label", "foreground=1")

    assert result.exit_code == 0, result.stderr
    assert f"foreground: {tmp_path / 'taken'}" in result.stdout
    assert run("models", "verify", tmp_path / "taken").exit_code == 0


def test_an_unclear_label_is_refused_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    export = write_tiny_model(
        tmp_path / "export", "foreground", above=0.0, with_yaml=False, labels={"liver": 1, "spleen": 2}
    )

    result = run("models", "add", "foreground", export, "--to", tmp_path / "taken")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


def test_a_model_goes_beside_others_under_the_name_of_its_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "body", "foreground", above=0.0, with_yaml=False, labels={"liver": 1, "spleen": 2})
    monkeypatch.chdir(tmp_path)

    result = run("models", "add", "foreground", "body", "--label", "foreground=1", "--label", "foreground=2")

    assert result.exit_code == 0, result.stderr
    assert read_model_spec(tmp_path / "models" / "body").labels == {"foreground": (1, 2)}


@pytest.mark.parametrize("label", ["body", "foreground=", "foreground=²", "foreground=1000"])
def test_a_label_without_a_number_is_a_usage_error(label: str, run: Run, tmp_path: Path) -> None:
    export = write_tiny_model(tmp_path / "export", "foreground", above=0.0, with_yaml=False)

    result = run("models", "add", "foreground", export, "--to", tmp_path / "taken", "--label", label)

    assert result.exit_code == 2
    assert "expected NAME=NUMBER" in result.stderr


def test_check_config_names_models_and_peers(run: Run, config_with_models: Path) -> None:
    settings = yaml.safe_load(config_with_models.read_text())
    settings["peers"] = [{"name": "pacs", "ae_title": "PACS", "host": "192.0.2.1", "port": 104}]
    settings["peers"][0]["kind"] = "dimse"
    settings["deliver_to"] = ["pacs"]
    config_with_models.write_text(yaml.safe_dump(settings))

    result = run("check-config", "-c", config_with_models)

    assert result.exit_code == 0, result.stderr
    assert "model anonymized: tiny-anonymized 0.0.1" in result.stdout
    assert "peer pacs: PACS at 192.0.2.1:104, gets every result" in result.stdout
    assert result.stdout.endswith("the settings are usable\n")


def test_check_config_warns_of_a_data_directory_that_is_open_to_others(run: Run, config_with_models: Path) -> None:
    data_dir = Path(yaml.safe_load(config_with_models.read_text())["node"]["data_dir"])
    data_dir.mkdir(exist_ok=True)
    data_dir.chmod(0o755)

    result = run("check-config", "-c", config_with_models)

    assert result.exit_code == 0, result.stderr
    assert f"warning: node.data_dir: {data_dir} has mode 0755" in result.stdout
    data_dir.chmod(0o750)
    assert "warning" not in run("check-config", "-c", config_with_models).stdout

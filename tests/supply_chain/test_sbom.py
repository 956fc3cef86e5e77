"""The bill of materials is CycloneDX, the same every time, and names the models by their digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import inference
from supply_chain.licences import shipped
from supply_chain.sbom import as_json, bill_of_materials

MODELS = Path(inference.__file__).parent / "reference"


@pytest.fixture(scope="module")
def text() -> str:
    return as_json(bill_of_materials(shipped()))


@pytest.fixture(scope="module")
def document(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def test_it_is_valid_cyclonedx(text: str, document: dict[str, Any]) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    document = json.loads(text)
    del document["components"][0]["type"]
    assert validator.validate_str(json.dumps(document)) is not None


def test_the_same_input_gives_the_same_bytes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_json(bill_of_materials(shipped())) == text
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    assert json.loads(as_json(bill_of_materials(shipped())))["metadata"]["timestamp"] == "2026-09-21T14:13:20+00:00"


def test_a_changed_lock_changes_the_serial_number(document: dict[str, Any]) -> None:
    fewer = json.loads(as_json(bill_of_materials(shipped()[1:])))
    assert fewer["serialNumber"] != document["serialNumber"]


def test_every_locked_package_is_there_with_licence_and_hashes(document: dict[str, Any]) -> None:
    found = {each["name"]: each for each in document["components"] if each["type"] == "library"}
    assert {name: each["version"] for name, each in found.items()} == {each.name: each.version for each in shipped()}
    for package in shipped():
        properties = {each["value"] for each in found[package.name]["properties"]}
        assert properties == set(package.hashes)
        assert found[package.name]["licenses"][0]["expression"]


def test_models_are_there_with_the_digest_of_every_file(document: dict[str, Any]) -> None:
    models = [each for each in document["components"] if each["type"] == "machine-learning-model"]
    assert {model["name"] for model in models} == {"reference-foreground", "reference-anonymized"}
    for model in models:
        folder = MODELS / model["name"].removeprefix("reference-")
        files = {each["name"]: each["hashes"][0]["content"] for each in model["components"]}
        assert files == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
        assert any(name.endswith(".pth") for name in files)
        assert model["licenses"][0]["expression"] == "Apache-2.0"


def test_dependencies_lead_from_the_node_to_every_component(document: dict[str, Any]) -> None:
    arrows = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    reached, waiting = set(), ["dicom-node"]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += arrows.get(ref, [])
    assert reached == {"dicom-node", *(each["bom-ref"] for each in document["components"])}

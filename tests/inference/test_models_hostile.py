"""Hostile plans, descriptions, checkpoints and folders of models end with a named refusal, whatever they hold."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dicom_node.failures import ErrorKind, classify
from inference.add_model import add_model
from inference.errors import ModelError
from inference.load_model import verify_model
from inference.models import read_model_spec, reference_model
from inference.nnunet import checkpoint as checkpoint_module
from inference.nnunet.checkpoint import read_checkpoint
from inference.nnunet.document import Node, read_json, read_yaml
from inference.nnunet.errors import CheckpointError, ModelKeyError
from inference.nnunet.trained_model import load_trained_model
from tests.tiny_models import tiny_plans, write_tiny_model

N_MUTANTS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"), "foreground")


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copied"))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "1e999", '{"a": 1' + "0" * 5000 + "}", '"\\ud800"', "\0", "NaN", "[1]"],
    ids=lambda text: text[:8],
)
def test_json_of_any_shape_is_a_document_or_a_refusal(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(text, encoding="utf-8")
    try:
        read_json(path, needed_for="the test")["configurations"]
    except ModelError as refused:
        assert "plans.json" in str(refused)  # noqa: PT017 - a document is right as well
    else:
        pytest.fail("none of these has the key")


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "a: !!int ''", "a: !!float ''", "a: !!bool maybe", "a: !!timestamp x", "? {a: b}\n: c", "!!python/x y",
     "a: &a [*a]", "- " * 5000, "a: 2020-13-45", "\x07"],
    ids=lambda text: text[:16],
)  # fmt: skip
def test_yaml_of_any_shape_is_a_document_or_a_refusal(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(ModelKeyError, match=r"model\.yaml"):
        read_yaml(path, needed_for="the test")["role"].text("foreground")


def test_a_value_of_endless_aliases_is_counted_and_not_written_out() -> None:
    value: object = ["x"] * 9
    for _ in range(60):
        value = [value] * 9
    assert "found list of 9" in str(Node("model.yaml", "labels", value).wrong("text"))
    assert "very many digits" in str(Node("plans.json", "spacing", 10**5000).wrong("text"))


def test_a_number_beyond_64_bits_is_refused_by_its_key() -> None:
    with pytest.raises(ModelKeyError, match=r"spacing.*fits into 64 bits"):
        Node("plans.json", "spacing", 10**400).number(above=0.0)


def _mutated(value: object, rng: random.Random) -> object:
    """The value with one part replaced by something that does not belong there."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: _mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        index = rng.randrange(len(value))
        return [*value[:index], _mutated(value[index], rng), *value[index + 1 :]]
    odd: list[object] = [
        None, -1, 0, 1.5, 2**63, 10**400, float("inf"), float("nan"), "", "x" * 300, [], {}, [[]], [1] * 50, True,
        [[1, 1, 1]] * 13, {"a": 1}, ["a"], [None, None, None], [0, 0, 0],
    ]  # fmt: skip
    return rng.choice(odd)


@pytest.mark.parametrize("seed", range(6))
def test_mutated_plans_and_labels_are_used_or_refused(seed: int, copied: Path) -> None:
    rng = random.Random(seed)
    for name in ("plans.json", "dataset.json"):
        path = copied / name
        original = path.read_text()
        for _ in range(N_MUTANTS // 6):
            path.write_text(json.dumps(_mutated(json.loads(original), rng)))
            try:
                load_trained_model(copied, device=torch.device("cpu"))
            except Exception as error:  # noqa: BLE001 - the kind of every error is what is tested
                assert isinstance(error, ModelError), path.read_text()  # noqa: PT017
        path.write_text(original)


def test_older_plans_of_very_many_stages_are_refused_before_they_are_counted(copied: Path) -> None:
    plans = tiny_plans()
    node = plans["configurations"]["3d_fullres"]
    del node["architecture"]
    node |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32, "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2] * 100_000, "conv_kernel_sizes": [], "pool_op_kernel_sizes": [],
        "n_conv_per_stage_decoder": [],
    }  # fmt: skip
    (copied / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelKeyError, match="at most 12 stages"):
        load_trained_model(copied, device=torch.device("cpu"))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_checkpoints_are_used_or_refused(seed: int, copied: Path) -> None:
    path = copied / "fold_0" / "checkpoint_final.pth"
    original, rng = path.read_bytes(), random.Random(seed)
    for _ in range(N_MUTANTS):
        octets = bytearray(original[: rng.choice([len(original), rng.randrange(len(original))])])
        for _ in range(rng.randrange(1, 12)):
            octets[rng.randrange(len(octets))] = rng.randrange(256)
        path.write_bytes(octets)
        try:
            read_checkpoint(path)
        except Exception as error:  # noqa: BLE001 - the kind of every error is what is tested
            assert isinstance(error, ModelError), (seed, error)  # noqa: PT017


@pytest.mark.parametrize("axes", ["012", [3], [-1], [1.5], [0, 1, 2, 0], {"a": 1}, [torch.zeros(2)], 7])
def test_odd_mirroring_axes_are_refused(axes: object, copied: Path) -> None:
    path = copied / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "inference_allowed_mirroring_axes": axes}, path)
    with pytest.raises(CheckpointError, match="inference_allowed_mirroring_axes"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "shortage",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
)
def test_a_checkpoint_that_memory_does_not_hold_may_be_tried_again(
    shortage: Exception, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_args: object, **_options: object) -> None:
        raise shortage

    monkeypatch.setattr(checkpoint_module.torch, "load", load)
    with pytest.raises(MemoryError) as raised:
        read_checkpoint(copied / "fold_0" / "checkpoint_final.pth")
    assert classify(raised.value) is ErrorKind.TRANSIENT


LINKED = ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_0", "model.yaml"]


def linked(folder: Path, name: str, elsewhere: Path) -> None:
    """Put a link in the place of a file or folder of a model."""
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_inside_a_model_folder_is_refused(name: str, copied: Path, tmp_path: Path) -> None:
    linked(copied, name, tmp_path / "elsewhere")
    with pytest.raises(ModelKeyError, match=rf"copied/{name}, key \(file\): found a symbolic link"):
        read_model_spec(copied)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_is_not_taken_in(name: str, copied: Path, tmp_path: Path) -> None:
    linked(copied, name, tmp_path / "elsewhere")
    with pytest.raises(ModelError):
        add_model("foreground", copied, None, tmp_path / "added")
    assert not (tmp_path / "added").exists()


def test_a_model_folder_may_be_reached_through_a_link(copied: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(copied)
    assert verify_model(current).identity == read_model_spec(copied).identity


def test_the_models_of_the_package_may_be_linked_by_its_installer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "inference"
    for file in model.rglob("*"):
        if file.is_file():
            place = package / "reference" / "foreground" / file.relative_to(model)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    monkeypatch.setattr("inference.models.resources.files", lambda _: package)
    assert reference_model("foreground").identity == read_model_spec(model).identity


def test_a_description_with_a_wrong_kind_of_value_is_refused(copied: Path) -> None:
    path = copied / "model.yaml"
    original = yaml.safe_load(path.read_text())
    rng = random.Random(3)
    for _ in range(N_MUTANTS):
        path.write_text(yaml.safe_dump(_mutated(original, rng)))
        try:
            read_model_spec(copied)
        except Exception as error:  # noqa: BLE001 - the kind of every error is what is tested
            assert isinstance(error, ModelError), path.read_text()  # noqa: PT017

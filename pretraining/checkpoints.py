"""Write a checkpoint that stock nnU-Net fine-tunes from, and say what does not fit one.

The file holds the whole ``state_dict`` of the stock network. An encoder weight stands in it under up to four names, of
which nnU-Net's loader lets the last win without a word; so the names are checked to agree, before and after writing.

References
----------
nnunetv2 2.8.1, ``run/load_pretrained_weights.py``, for ``nnUNetv2_train -pretrained_weights``: every key of the target
except those with ``.seg_layers.`` must exist in the same shape. nnU-Net's main branch (July 2026),
``finetuning_from_nnssl_checkpoints.md``: the entry ``nnssl_adaptation_plan``, read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretraining.errors import Refused
from pretraining.networks import NetworkPlan

CHECKPOINT_FILE = "checkpoint_final.pth"
PLANS_FILE = "plans.json"
DATASET_FILE = "dataset.json"
REPLACED = ".seg_layers."  # keys that fine-tuning does not take
_PARTS = ((r"\bstem\.", "stem"), (r"\btranspconvs\.", "upsampling"))
# Pattern of a number in a key, what it counts, and the first number.
_NUMBERED = (
    (r"\bstages\.(\d+)", "stage", 0),
    (r"\btranspconvs\.(\d+)", "step", 0),
    (r"\bblocks\.(\d+)", "block", 0),
    (r"\bconvs\.(\d+)", "layer", 0),
    (r"\.conv(\d)\.", "layer", 1),
)
_NORM = r"\.norm\.|all_modules\.1"
Plain = str | int | float | bool | None | Sequence["Plain"] | Mapping[str, "Plain"]


class CheckpointRefused(Refused):
    """A checkpoint is not what its user needs; facts: the file's name, what is wrong."""

    code = "pretraining-checkpoint"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Citation:
    """What to cite; the entry of nnssl's checkpoints."""

    type: str  # such as "Pretraining Method"
    name: str
    bibtex_citations: tuple[str, ...]


def write_checkpoint(
    folder: Path,
    network: nn.Module,
    plan: NetworkPlan,
    *,
    citations: Sequence[Citation],
    facts: Mapping[str, Plain],
    name: str = CHECKPOINT_FILE,
) -> Path:
    """Write the checkpoint, ``plans.json`` and a ``dataset.json`` into a folder; return the checkpoint's path.

    Parameters
    ----------
    network
        The stock network, on any device.
    facts
        Plain values about the run, such as method and steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLANS_FILE).write_text(json.dumps(plan.plans, indent=2) + "\n", "utf-8")
    (folder / DATASET_FILE).write_text(json.dumps(_dataset(plan), indent=2) + "\n", "utf-8")
    content = {
        "network_weights": weights_of(network),
        "nnssl_adaptation_plan": adaptation_plan(network, plan),
        "citations": [
            {**asdict(citation), "bibtex_citations": list(citation.bibtex_citations)} for citation in citations
        ],
        "pretraining": _plain(facts),
    }
    path = folder / name
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    check_fits(part, network)
    part.replace(path)
    return path


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the whole ``state_dict`` on the CPU; names of one weight share one tensor, as they do in the network."""
    moved: dict[tuple[int, torch.Size], Tensor] = {}
    weights = {}
    for key, value in network.state_dict().items():
        place = (value.data_ptr(), value.shape)
        if place not in moved:
            moved[place] = value.detach().to("cpu").contiguous()
        weights[key] = moved[place]
    return weights


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content; no code in it is run.

    Raises
    ------
    CheckpointRefused
        The file cannot be read, or holds no ``network_weights``.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler and its archive reader meet
        raise CheckpointRefused(path.name, f"cannot be read as a checkpoint ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise CheckpointRefused(path.name, "holds no network_weights; is it a checkpoint of nnU-Net?")
    return content


def check_fits(path: Path, network: nn.Module) -> int:
    """Return how many tensors of a checkpoint ``-pretrained_weights`` takes into a network.

    Raises
    ------
    CheckpointRefused
        A key is missing, has another shape, or names of one weight disagree; the first such key is named in words.
    """
    weights = read_checkpoint(path)["network_weights"]
    problem = first_difference(weights, network)
    if problem is not None:
        raise CheckpointRefused(path.name, problem)
    return sum(REPLACED not in key for key in network.state_dict())


def first_difference(weights: Mapping[str, Tensor], network: nn.Module) -> str | None:
    """Return in words the first key that keeps weights from a network; None if ``-pretrained_weights`` takes all."""
    first_names: dict[tuple[int, torch.Size], str] = {}
    for key, value in network.state_dict().items():
        if REPLACED in key:
            continue
        if key not in weights:
            return f"{place_of(key)} is missing in the checkpoint (key {key}); {_way_out(weights, key)}"
        if weights[key].shape != value.shape:
            return (
                f"{place_of(key)} has shape {_shape(weights[key])} in the checkpoint and {_shape(value)} in the "
                f"network (key {key}); {_same_plans()}"
            )
        first = first_names.setdefault((value.data_ptr(), value.shape), key)
        if value.device.type != "meta" and not torch.equal(weights[key], weights[first]):
            return (
                f"{place_of(key)} is stored twice with different values (keys {first} and {key}); "
                "save the state_dict of the whole network once, after training"
            )
    return None


def place_of(key: str) -> str:
    """Return where in a network a key belongs, in words; stages, blocks and layers count from 1."""
    part = "encoder" if "encoder." in key else "decoder"
    words = [f"{part} {word}".strip() for pattern, word in _PARTS if re.search(pattern, key)][:1] or [part]
    for pattern, word, first_number in _NUMBERED:
        found = re.search(pattern, key)
        if found is not None:
            words.append(f"{word} {int(found[1]) + 1 - first_number}")
    if ".skip." in key:
        words.append("shortcut")
    words.append(f"{'normalisation' if re.search(_NORM, key) else 'convolution'} {key.rsplit('.', 1)[-1]}")
    return ", ".join(words)


def adaptation_plan(network: nn.Module, plan: NetworkPlan) -> dict[str, Any]:
    """Return what nnU-Net's commands for nnssl checkpoints read: topology, voxel size, names of the encoder's parts."""
    architecture = plan.architecture
    settings = plan.settings
    return {
        "architecture_plans": {
            "arch_class_name": str(architecture["network_class_name"]).rsplit(".", 1)[-1],
            "arch_kwargs": _plain(architecture["arch_kwargs"]),
            "arch_kwargs_requiring_import": list(architecture["_kw_requires_import"]),
        },
        "pretrain_plan": {"configurations": {plan.configuration: _plain(settings)}},
        "pretrain_num_input_channels": plan.n_channels,
        "recommended_downstream_patchsize": list(plan.patch_size),
        "key_to_encoder": str(network.key_to_encoder),
        "key_to_stem": str(network.key_to_stem),
        "keys_to_in_proj": [str(key) for key in cast("Sequence[str]", network.keys_to_in_proj)],
        "key_to_lpe": None,
    }


def _dataset(plan: NetworkPlan) -> dict[str, Any]:
    """Return the ``dataset.json`` of the pretraining: channels, and no label but the background."""
    return {
        "channel_names": {str(number): f"channel {number}" for number in range(plan.n_channels)},
        "labels": {"background": 0},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value of plain Python types, which ``weights_only`` reads; NumPy's scalars and arrays are converted."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape)


def _way_out(weights: Mapping[str, Tensor], key: str) -> str:
    for prefix in ("module.", "_orig_mod."):
        if prefix + key in weights:
            return f"its keys begin with {prefix!r}: save the network itself, not what wraps it"
    return _same_plans()


def _same_plans() -> str:
    return "pretrain with the plans of the target dataset (--plans), or move the plans beside the checkpoint to it"

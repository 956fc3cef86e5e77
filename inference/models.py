"""Describe a model: a trained-model folder with a ``model.yaml`` that says what the model is for.

``model.yaml`` names the role, the labels, the input channels and the SHA-256 of every file. Models of others come
without one; ``add_model`` checks such a folder or zip, copies what prediction needs and writes it. Nothing here imports
PyTorch: a process that only has to know which models are in use stays small. `inference.load_model` loads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from inference.nnunet.channels import CHANNELS
from inference.nnunet.document import Node, check_no_link, read_yaml
from inference.nnunet.errors import ModelFileMissingError, ModelKeyError

MODEL_FILE = "model.yaml"
ROLES = ("foreground", "anonymized")
# What the labels of a role may be called; anything else in a network is ignored.
ROLE_LABELS: Mapping[str, tuple[str, ...]] = {
    "foreground": ("foreground",),
    "anonymized": ("removed", "smoothed", "replaced", "altered", "anonymized"),
}
STILL_BODY = frozenset({"smoothed", "replaced", "altered"})  # tissue is there, only not the person's own
# What a result can say of its model: a DICOM long string (LO, PS3.5 6.2) in the default repertoire, one value.
_LONG_STRING = re.compile(r"[ -\[\]-~]{1,64}")
# Both hedge on intact faces; in the mask only where model.yaml lists them under mask_labels.
NOT_IN_MASK = frozenset({"altered", "replaced"})


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What results say about the model that made them."""

    role: str
    name: str
    version: str
    sha256: str  # of the list of all files with their SHA-256, model.yaml included


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model folder, as its model.yaml describes it.

    Attributes
    ----------
    labels
        nnU-Net's integers under each of our names.
    mask_labels
        Names whose voxels make the mask.
    refine
        Whether masks are refined on the source grid, and padding in CT is raised to air before the network looks.
    """

    identity: ModelIdentity
    folder: Path
    labels: Mapping[str, tuple[int, ...]]
    mask_labels: tuple[str, ...]
    channels: tuple[str, ...]
    configuration: str
    folds: tuple[int | str, ...]  # numbers, or "all"
    refine: bool
    sha256: Mapping[str, str]
    licence: str = ""
    trained_on: str = ""

    @property
    def mask_values(self) -> tuple[int, ...]:
        """nnU-Net's integers that make the mask."""
        return tuple(sorted({value for name in self.mask_labels for value in self.labels[name]}))

    @property
    def altered_values(self) -> tuple[int, ...]:
        """Those of them that mean tissue which a tool blurred or replaced."""
        return self._mask_values_of(STILL_BODY)

    @property
    def smoothed_values(self) -> tuple[int, ...]:
        """Those of them that mean tissue which a tool made smooth, so that its values can confirm it."""
        return self._mask_values_of(frozenset({"smoothed"}))

    def _mask_values_of(self, names: frozenset[str]) -> tuple[int, ...]:
        chosen = [name for name in self.mask_labels if name in names]
        return tuple(sorted({value for name in chosen for value in self.labels[name]}))


def read_model_spec(folder: Path, *, may_link: bool = False) -> ModelSpec:
    """Read the ``model.yaml`` of a folder; the files that it names must exist, their content is not looked at.

    Parameters
    ----------
    may_link
        Whether files may be reached through links inside the folder, as installers of Python packages make them.

    Raises
    ------
    ModelError
        A file is missing, or a key of model.yaml is missing or wrong.
    """
    path = folder / MODEL_FILE
    if not may_link:
        check_no_link(folder, path)
    document = read_yaml(path, needed_for="the role and labels of the model")
    role = document["role"].text(*ROLES)
    labels = {name: _values(node) for name, node in document["labels"].nodes()}
    unknown = set(labels) - set(ROLE_LABELS[role])
    if unknown or not labels:
        raise document["labels"].wrong(f"labels named {', '.join(ROLE_LABELS[role])}")
    sha256 = _checksums(folder, document["sha256"])
    if not may_link:
        for name in sha256:
            check_no_link(folder, folder / name)
    identity = ModelIdentity(
        role, text_for_results(document["name"]), text_for_results(document["version"]), _digest(sha256, path)
    )
    return ModelSpec(
        identity=identity,
        folder=folder,
        labels=labels,
        mask_labels=_mask_labels(document, labels),
        channels=tuple(node.text(*CHANNELS) for node in document["channels"].items()),
        configuration=document["configuration"].text(),
        folds=tuple(node.integer(0, 99) if node.value != "all" else "all" for node in document["folds"].items()),
        refine=document["refine"].flag(),
        sha256=sha256,
        licence=_optional_text(document, "licence"),
        trained_on=_optional_text(document, "trained_on"),
    )


def reference_model(role: str) -> ModelSpec:
    """Give the model that comes with the package for a role."""
    return read_model_spec(Path(str(resources.files("inference"))) / "reference" / role, may_link=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    if not path.is_file():
        raise ModelFileMissingError(str(path), "its checksum in model.yaml")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_for_results(node: Node) -> str:
    """Return a name or version that results can carry."""
    if not _LONG_STRING.fullmatch(node.text()):
        raise node.wrong("1 to 64 ASCII characters, no backslash")
    return node.text()


def _digest(sha256: Mapping[str, str], model_file: Path) -> str:
    """SHA-256 of what ``sha256sum`` prints for all files, sorted by name."""
    named = {**sha256, MODEL_FILE: file_sha256(model_file)}
    listing = "".join(f"{named[name]}  {name}\n" for name in sorted(named))
    return hashlib.sha256(listing.encode()).hexdigest()


def _checksums(folder: Path, node: Node) -> dict[str, str]:
    """File names and digests, for files inside the folder only."""
    found = {}
    for name, digest in node.nodes():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelKeyError(node.file, node.key, repr(name), "names of files inside the model's folder")
        value = digest.text()
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise digest.wrong("64 lower-case hexadecimal digits")
        if not (folder / name).is_file():
            raise ModelFileMissingError(str(folder / name), "its checksum in model.yaml")
        found[name] = value
    missing = [name for name in ("plans.json", "dataset.json") if name not in found]
    if missing or not any(name.endswith(".pth") for name in found):
        raise node.wrong("plans.json, dataset.json and every checkpoint")
    return found


def _mask_labels(document: Node, labels: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    node = document.get("mask_labels")
    if node is None:
        chosen = tuple(name for name in labels if name not in NOT_IN_MASK)
        if not chosen:
            raise ModelKeyError(document.file, "mask_labels", "nothing", f"some of {', '.join(labels)}")
        return chosen
    return tuple(item.text(*labels) for item in node.items())


def _values(node: Node) -> tuple[int, ...]:
    if isinstance(node.value, list):
        return tuple(item.integer(1, 254) for item in node.items())
    return (node.integer(1, 254),)


def _optional_text(document: Node, key: str) -> str:
    node = document.get(key)
    return "" if node is None or node.value is None else node.text()

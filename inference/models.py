"""Read the description of a model: a trained-model folder with a ``model.yaml``.

``model.yaml`` names the role, the labels, the input channels and the SHA-256 of every file. Third-party models come
without one; ``add_model`` checks such a folder or zip, copies what prediction needs and writes it. This module does not
import PyTorch, so that a process that only needs to know which models are in use stays small. `inference.load_model`
loads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

from inference.nnunet.channel_names import CHANNEL_NAMES
from inference.nnunet.document import Node, check_no_link, read_yaml
from inference.nnunet.errors import ModelFileMissingError, ModelKeyError

MODEL_FILE = "model.yaml"
ROLES = ("foreground", "anonymized")
# Allowed names for the labels of a role; other labels of a network are ignored.
ROLE_LABELS: Mapping[str, tuple[str, ...]] = {
    "foreground": ("foreground",),
    "anonymized": ("removed", "smoothed", "replaced", "altered", "anonymized"),
}
# These still show tissue, though not the person's own. Coarse networks write them on intact faces too; they are part of
# the mask only if model.yaml lists them in mask_labels.
STILL_BODY = frozenset({"smoothed", "replaced", "altered"})
# Labels of a network whose outputs the judge takes as input, in this order.
JUDGED_LABELS: Mapping[str, tuple[int, ...]] = {"removed": (1,), "smoothed": (2,), "replaced": (3,)}
JUDGE_FOLDER, JUDGE_FILES = "judge", ("judge/judge.json", "judge/weights.pth")
# Text that a result can hold: one value of a DICOM long string (LO, PS3.5 6.2) in the default repertoire.
_LONG_STRING = re.compile(r"[ -\[\]-~]{1,64}")


class JudgeScope(StrEnum):
    """What the judge decides."""

    ALTERED = "altered"  # where a face was smoothed or exchanged; equal values and statistics decide the rest
    OUTLINE = "outline"  # that, and how far an area reaches that these found, where no equal value shows it


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """How results identify the model that made them."""

    role: str
    name: str
    version: str
    sha256: str  # of the list of all files with their SHA-256, model.yaml included


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Content of a model folder's model.yaml.

    Attributes
    ----------
    labels
        nnU-Net's integers by label name.
    mask_labels
        Names of the labels whose voxels make up the mask.
    channels
        Names in ``inference.nnunet.channels.CHANNELS``.
    refine
        Whether masks are refined on the source grid, and CT padding is raised to air before prediction.
    sha256
        Hexadecimal digests by file name relative to ``folder``.
    judge
        What a second network at native voxels, in the folder ``JUDGE_FOLDER``, decides; None if there is none.
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
    judge: JudgeScope | None = None
    licence: str = ""
    trained_on: str = ""

    @property
    def mask_values(self) -> tuple[int, ...]:
        """nnU-Net's integers of the labels in the mask."""
        return tuple(sorted({value for name in self.mask_labels for value in self.labels[name]}))

    @property
    def altered_values(self) -> tuple[int, ...]:
        """Those of ``mask_values`` that mean tissue which a tool blurred or replaced."""
        chosen = [name for name in self.mask_labels if name in STILL_BODY]
        return tuple(sorted({value for name in chosen for value in self.labels[name]}))


def read_model_spec(folder: Path, *, may_link: bool = False) -> ModelSpec:
    """Read the ``model.yaml`` of a folder; the files that it names must exist, but are not read.

    Parameters
    ----------
    may_link
        Whether files may be symbolic links inside the folder, as some installers of Python packages create them.

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
    channels = tuple(node.text(*CHANNEL_NAMES) for node in document["channels"].items())
    return ModelSpec(
        identity=identity,
        folder=folder,
        labels=labels,
        mask_labels=_mask_labels(document, labels),
        channels=channels,
        configuration=document["configuration"].text(),
        folds=tuple(node.integer(0, 99) if node.value != "all" else "all" for node in document["folds"].items()),
        refine=document["refine"].flag(),
        sha256=sha256,
        judge=_judge_scope(document, labels, channels, sha256),
        licence=_optional_text(document, "licence"),
        trained_on=_optional_text(document, "trained_on"),
    )


def reference_model(role: str) -> ModelSpec:
    """Return the model for a role that comes with the package."""
    return read_model_spec(Path(str(resources.files("inference"))) / "reference" / role, may_link=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; raise ModelFileMissingError if it does not exist."""
    if not path.is_file():
        raise ModelFileMissingError(str(path), "its checksum in model.yaml")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_for_results(node: Node) -> str:
    """Return a name or version as text that fits into results; raise ModelKeyError if it does not."""
    if not _LONG_STRING.fullmatch(node.text()):
        raise node.wrong("1 to 64 ASCII characters, no backslash")
    return node.text()


def _digest(sha256: Mapping[str, str], model_file: Path) -> str:
    """Return the SHA-256 of the text that ``sha256sum`` prints for all files, sorted by name."""
    named = {**sha256, MODEL_FILE: file_sha256(model_file)}
    listing = "".join(f"{named[name]}  {name}\n" for name in sorted(named))
    return hashlib.sha256(listing.encode()).hexdigest()


def _checksums(folder: Path, node: Node) -> dict[str, str]:
    """Return digests by file name; raise ModelError for files that are missing or outside the folder."""
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
        chosen = tuple(name for name in labels if name not in STILL_BODY)
        if not chosen:
            raise ModelKeyError(document.file, "mask_labels", "nothing", f"some of {', '.join(labels)}")
        return chosen
    return tuple(item.text(*labels) for item in node.items())


def _judge_scope(
    document: Node, labels: Mapping[str, tuple[int, ...]], channels: tuple[str, ...], sha256: Mapping[str, str]
) -> JudgeScope | None:
    """Return what ``judge`` says; raise ModelKeyError if the rest of model.yaml does not fit to it."""
    node = document.get("judge")
    if node is None or node.value == "none":
        return None
    scope = JudgeScope(node.text("none", *JudgeScope))
    if labels != JUDGED_LABELS or "field_of_view" not in channels or not document["refine"].flag():
        raise node.wrong("none, unless labels are removed: 1, smoothed: 2, replaced: 3, with field_of_view and refine")
    missing = [name for name in JUDGE_FILES if name not in sha256]
    if missing:
        raise document["sha256"].wrong(f"a digest of {' and '.join(missing)}, because judge is {scope}")
    return scope


def _values(node: Node) -> tuple[int, ...]:
    if isinstance(node.value, list):
        return tuple(item.integer(1, 254) for item in node.items())
    return (node.integer(1, 254),)


def _optional_text(document: Node, key: str) -> str:
    node = document.get(key)
    return "" if node is None or node.value is None else node.text()

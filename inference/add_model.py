"""Add a third-party model: turn a plain nnU-Net export, a zip or a folder, into a folder with a ``model.yaml``.

Only plans.json, dataset.json and the checkpoints are copied. No code of the export is run, and no name in a zip can
lead outside the destination.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import torch
import yaml

from inference.load_model import verify_model
from inference.models import (
    MODEL_FILE,
    ROLE_LABELS,
    ROLES,
    ModelSpec,
    file_sha256,
    read_model_spec,
    text_for_results,
)
from inference.nnunet.document import Node, check_no_link
from inference.nnunet.errors import ModelArchiveError, ModelFileMissingError, ModelKeyError
from inference.nnunet.labels import read_labels
from inference.nnunet.trained_model import CHECKPOINT_NAME, checkpoint_paths, load_trained_model

MAX_ARCHIVE_BYTES = 16 * 2**30  # unpacked; five folds of the largest residual encoder are about 4 GiB
MAX_MEMBERS = 10_000


def add_model(
    role: str,
    path: Path,
    labels: Mapping[str, int | tuple[int, ...]] | None,
    destination: Path,
    *,
    name: str | None = None,
    version: str = "unknown",
    licence: str = "",
) -> ModelSpec:
    """Copy a trained model to ``destination``, check that it loads, and describe it in a ``model.yaml``.

    Parameters
    ----------
    role
        ``foreground`` or ``anonymized``.
    path
        A trained-model folder, a folder above it, or a zip of either.
    labels
        nnU-Net's integers by label name (names of ``inference.models.ROLE_LABELS``). None takes them from the
        model.yaml that came with the model, or else from dataset.json if its labels are unambiguous.
    destination
        Folder to create; it must not exist.
    name
        Name of the model in results; None for the name of the file or folder.
    version, licence
        Text for model.yaml.

    Raises
    ------
    ModelError
        The model is broken, unsafe or unsupported, or its labels are ambiguous. ``destination`` is not created then.
    """
    if role not in ROLES:
        raise ModelKeyError(str(path), "role", role, f"one of {', '.join(ROLES)}")
    if destination.exists():
        raise ModelArchiveError(str(destination), "this folder exists already, choose another name or remove it")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".adding-") as work:
        source = _unpack(path, Path(work) / "unpacked") if zipfile.is_zipfile(path) else path
        folder = find_trained_model(source)
        staged = Path(work) / "model"
        _copy(folder, staged)
        if labels is not None or not (staged / MODEL_FILE).is_file():
            chosen = {"name": name_of_model(path) if name is None else name, "version": version}
            named = {key: text_for_results(Node(str(path), key, text)) for key, text in chosen.items()}
            _describe(staged, role, labels, named, licence)
        spec = verify_model(staged)
        if spec.identity.role != role:
            raise ModelKeyError(str(path / MODEL_FILE), "role", spec.identity.role, f"{role}, as you asked for")
        staged.rename(destination)
    return read_model_spec(destination)


def find_trained_model(source: Path) -> Path:
    """Find the one trained-model folder in or below ``source``; among several, the ``3d_fullres`` one."""
    found = sorted(plans.parent for plans in source.rglob("plans.json") if (plans.parent / "dataset.json").is_file())
    found = [folder for folder in found if any(folder.glob(f"fold_*/{CHECKPOINT_NAME}"))]
    if not found:
        raise ModelFileMissingError(
            str(source), f"a trained model: no folder here has plans.json, dataset.json and fold_*/{CHECKPOINT_NAME}"
        )
    if len(found) > 1:
        found = [folder for folder in found if folder.name.endswith("__3d_fullres")] or found
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise ModelArchiveError(str(source), f"holds several trained models ({names}), give the folder of one")
    return found[0]


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack the model files of a zip; names, kinds and sizes are checked before a file is written."""
    with zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        if len(members) > MAX_MEMBERS:
            raise ModelArchiveError(str(archive), f"holds {len(members)} members, at most {MAX_MEMBERS} are accepted")
        budget = MAX_ARCHIVE_BYTES
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            _check_member(archive, member, name)
            if member.is_dir() or name.name not in ("plans.json", "dataset.json", MODEL_FILE, CHECKPOINT_NAME):
                continue
            place = target.joinpath(*name.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            budget -= _write_member(bundle, member, place, archive, budget)
    target.mkdir(exist_ok=True)
    return target


def _check_member(archive: Path, member: zipfile.ZipInfo, name: PurePosixPath) -> None:
    is_outside = name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts)
    if is_outside or not name.parts:
        raise ModelArchiveError(str(archive), f"member {member.filename[:80]!r} leads outside the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ModelArchiveError(str(archive), f"member {member.filename[:80]!r} is a link")
    if member.flag_bits & 0x1:
        raise ModelArchiveError(str(archive), f"member {member.filename[:80]!r} is encrypted")


def _write_member(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path, archive: Path, budget: int) -> int:
    """Write one member and return its size, counted while reading because the size in the header may be wrong."""
    written = 0
    try:
        with bundle.open(member) as source, place.open("wb") as sink:
            while chunk := source.read(2**20):
                written += len(chunk)
                if written > budget:
                    raise ModelArchiveError(str(archive), f"unpacks to more than {MAX_ARCHIVE_BYTES} bytes")
                sink.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ModelArchiveError(str(archive), f"member {member.filename[:80]!r} is broken ({error})") from error
    return written


def _copy(folder: Path, staged: Path) -> None:
    """Copy only the files that prediction needs."""
    files = [folder / "plans.json", folder / "dataset.json", *checkpoint_paths(folder, None)]
    if (folder / MODEL_FILE).is_file():
        files.append(folder / MODEL_FILE)
    for file in files:
        check_no_link(folder, file)
        place = staged / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _describe(
    folder: Path,
    role: str,
    labels: Mapping[str, int | tuple[int, ...]] | None,
    named: Mapping[str, str],
    licence: str,
) -> None:
    """Write the model.yaml of a plain nnU-Net folder; ``named`` has its name and version."""
    unknown = set(labels or ()) - set(ROLE_LABELS[role])
    if unknown:
        raise ModelKeyError(
            str(folder), "labels", ", ".join(sorted(unknown)), f"some of {', '.join(ROLE_LABELS[role])}"
        )
    chosen: Mapping[str, int | tuple[int, ...]] = labels or _labels_for_role(role, folder / "dataset.json")
    model = load_trained_model(folder, device=torch.device("cpu"))
    checkpoints = checkpoint_paths(folder, None)
    folds = [path.parent.name.removeprefix("fold_") for path in checkpoints]
    files = [folder / "plans.json", folder / "dataset.json", *checkpoints]
    description = {
        "role": role,
        **named,
        "labels": {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()},
        "channels": list(model.channels),
        "configuration": model.plans.configuration,
        "folds": [int(fold) if fold.isdigit() else fold for fold in folds],
        "sha256": {file.relative_to(folder).as_posix(): file_sha256(file) for file in files},
        "refine": False,
        "licence": licence,
        "trained_on": "",
    }
    (folder / MODEL_FILE).write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")


def name_of_model(path: Path) -> str:
    """Return the default name of a model: that of its file without suffix, or of its folder."""
    return path.stem if path.is_file() else path.resolve().name


def _labels_for_role(role: str, dataset: Path) -> dict[str, tuple[int, ...]]:
    """Choose the labels of a dataset.json for a role: those named as in ``ROLE_LABELS``, or else the only one.

    Raises
    ------
    ModelKeyError
        There are several labels and none has a known name.
    """
    labels = read_labels(dataset)
    named = {name: labels.values[name] for name in ROLE_LABELS[role] if name in labels.values}
    if named:
        return named
    others = [value for name, value in labels.values.items() if name != "background"]
    if len(others) == 1:
        return {"foreground" if role == "foreground" else "anonymized": others[0]}
    known = ", ".join(f"{name}={'+'.join(map(str, value))}" for name, value in labels.values.items())
    raise ModelKeyError(str(dataset), "labels", known, f"one label, or that you say which ones are the {role}")

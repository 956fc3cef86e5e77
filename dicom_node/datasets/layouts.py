"""Layouts of a dataset: JSON or CSV, and relative links to the volumes, which are written once."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node.datasets.subjects import Place
from dicom_node.datasets.volumes import (
    ALTERED,
    ALTERED_LABEL,
    BACKGROUND,
    BODY_LABEL,
    IMAGE,
    LABELS,
    encode_json,
)

VOLUMES: Final = "volumes"
PRETRAIN_DATA, DATASET_JSON, OPENMIND_CSV = "pretrain_data.json", "dataset.json", "openneuro_metadata.csv"
SPLITS = "splits_final.json"
N_FOLDS: Final = 5  # as many as nnU-Net makes
_WRITTEN: Final = frozenset({PRETRAIN_DATA, DATASET_JSON, OPENMIND_CSV, SPLITS})
_OPENMIND_COLUMNS: Final = (
    *("image_path", "anat_mask_path", "anon_mask_path", "modality", "image_quality_score", "unique_id"),
    "derived_from",
)


class Layout(StrEnum):
    """A program that reads the dataset."""

    NNSSL = "nnssl"
    NNUNET = "nnunet"
    OPENMIND = "openmind"


class MaskMode(StrEnum):
    """How nnssl is told of the two masks: its preprocessing swaps them if it gets both."""

    DOCUMENTED = "documented"
    COMPAT = "compat"
    ANON_ONLY = "anon-only"


@dataclass(frozen=True, slots=True)
class Name:
    """Number and name of a dataset, as nnU-Net and nnssl want them."""

    number: int
    text: str

    @property
    def folder(self) -> str:
        """``Dataset901_Heads`` and the like."""
        return f"Dataset{self.number:03d}_{self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A volume of the dataset."""

    record: Mapping[str, Any]
    place: Place

    @property
    def id(self) -> str:
        """ID of the volume."""
        return str(self.record["id"])


def write_layouts(
    out: Path, entries: Sequence[Entry], layouts: Sequence[Layout], *, name: Name, mode: MaskMode
) -> None:
    """Write the layouts that are wanted, and take away all others that an earlier run wrote.

    Files that are not of this program stay.
    """
    for layout in Layout:
        _clear(out / layout)
    ordered = sorted(entries, key=lambda entry: (entry.place.subject, entry.place.session, entry.id))
    for layout in layouts:
        match layout:
            case Layout.NNSSL:
                _write_nnssl(out, ordered, name, mode)
            case Layout.NNUNET:
                _write_nnunet(out, ordered, name)
            case Layout.OPENMIND:
                _write_openmind(out, ordered, name)


def _write_nnssl(out: Path, entries: Sequence[Entry], name: Name, mode: MaskMode) -> None:
    """``nnssl_raw`` is the folder ``nnssl``; nnssl expands it in paths, so that the dataset can be moved."""
    folder = out / Layout.NNSSL / name.folder
    subjects: dict[str, Any] = {}
    for entry in entries:
        places = {
            "image": f"images/{entry.id}.nii.gz",
            "altered": f"masks/{entry.id}__altered.nii.gz",
            "background": f"masks/{entry.id}__background.nii.gz",
        }
        for place, file in zip(places.values(), (IMAGE, ALTERED, BACKGROUND), strict=True):
            _link(folder / place, out / VOLUMES / entry.id / file)
        paths = {key: f"$nnssl_raw/{name.folder}/{place}" for key, place in places.items()}
        masks: dict[str, str | None] = {"anonymization_mask": paths["altered"], "anatomy_mask": paths["background"]}
        if mode is MaskMode.COMPAT:
            masks = {"anonymization_mask": paths["background"], "anatomy_mask": paths["altered"]}
        elif mode is MaskMode.ANON_ONLY:
            masks["anatomy_mask"] = None
        where = entry.place
        subject = subjects.setdefault(
            where.subject, {"subject_id": where.subject, "subject_info": None, "sessions": {}}
        )
        session = subject["sessions"].setdefault(
            where.session, {"session_id": where.session, "session_info": None, "images": []}
        )
        session["images"].append(
            {
                "name": f"{entry.id}.nii.gz",
                "modality": entry.record["modality"],
                "image_info": {"exact_zero_air": entry.record["exact_zero_air"]},
                "image_path": paths["image"],
                "associated_masks": masks,
            }
        )
    dataset = {"dataset_index": "1", "name": name.text, "dataset_info": None, "subjects": subjects}
    collection = {"collection_index": name.number, "collection_name": name.folder, "datasets": {"1": dataset}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PRETRAIN_DATA).write_bytes(encode_json(collection))


def _write_nnunet(out: Path, entries: Sequence[Entry], name: Name) -> None:
    """The raw dataset of nnU-Net: body against air, and altered voxels under the label that it never learns from."""
    folder = out / Layout.NNUNET / name.folder
    for entry in entries:
        volume = out / VOLUMES / entry.id
        _link(folder / "imagesTr" / f"{entry.id}_0000.nii.gz", volume / IMAGE)
        _link(folder / "labelsTr" / f"{entry.id}.nii.gz", volume / LABELS)
    modalities = Counter(str(entry.record["modality"]) for entry in entries)
    description = {
        # nnU-Net clips and scales a channel of this name as Hounsfield units; every other name means z-score.
        "channel_names": {"0": next(iter(modalities)) if len(modalities) == 1 else "CT or MR"},
        "labels": {"background": 0, "body": BODY_LABEL, "ignore": ALTERED_LABEL},
        "numTraining": len(entries),
        "file_ending": ".nii.gz",
    }
    folder.mkdir(parents=True, exist_ok=True)
    if splits := split_by_subject(entries):
        (folder / SPLITS).write_bytes(encode_json(splits))
    (folder / DATASET_JSON).write_bytes(encode_json(description))


def split_by_subject(entries: Sequence[Entry]) -> list[dict[str, list[str]]]:
    """Return nnU-Net's folds, each subject on one side; none if there are fewer subjects than folds."""
    subjects = sorted({entry.place.subject for entry in entries})
    if len(subjects) < N_FOLDS:
        return []
    fold_of = {subject: index % N_FOLDS for index, subject in enumerate(subjects)}
    return [
        {
            "train": sorted(entry.id for entry in entries if fold_of[entry.place.subject] != fold),
            "val": sorted(entry.id for entry in entries if fold_of[entry.place.subject] == fold),
        }
        for fold in range(N_FOLDS)
    ]


def _write_openmind(out: Path, entries: Sequence[Entry], name: Name) -> None:
    """As OpenMind is downloaded: a folder ``OpenMind``, and a table with paths relative to it."""
    root = out / Layout.OPENMIND
    dataset = f"node{name.number:04d}"  # OpenMind's readers take the first eight characters of an ID as the dataset
    rows = io.StringIO()
    table = csv.DictWriter(rows, _OPENMIND_COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for entry in entries:
        stem = f"{dataset}/{entry.place.subject}/{entry.place.session}/anat/{entry.id}"
        paths = {
            "image_path": f"{stem}.nii.gz",
            "anat_mask_path": f"{stem}__Data/fb_mask.nii.gz",
            "anon_mask_path": f"{stem}__Data/deface_mask.nii.gz",
        }
        for path, file in zip(paths.values(), (IMAGE, BACKGROUND, ALTERED), strict=True):
            _link(root / "OpenMind" / path, out / VOLUMES / entry.id / file)
        table.writerow({**paths, "modality": entry.record["modality"], "unique_id": f"{dataset}_{entry.id}"})
    root.mkdir(parents=True, exist_ok=True)
    (root / OPENMIND_CSV).write_bytes(rows.getvalue().encode())


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _clear(folder: Path) -> None:
    """Take away the links and tables of an earlier run, and folders that are empty then."""
    for place, _, files in os.walk(folder, topdown=False):
        for file in files:
            path = Path(place, file)
            if path.is_symlink() or file in _WRITTEN:
                path.unlink()
        if not any(Path(place).iterdir()):
            Path(place).rmdir()

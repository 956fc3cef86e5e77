"""Check a dataset afterwards: files are as they were written, links lead somewhere, nnssl has the right masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.datasets.errors import DatasetOutputError
from dicom_node.datasets.finishing import MANIFEST
from dicom_node.datasets.layouts import VOLUMES, Layout

_FILES: Final = {"anonymization_mask": "__anon.b2nd", "anatomy_mask": "__anat.b2nd"}  # as nnssl names its masks


@dataclass(frozen=True, slots=True)
class Checked:
    """What a dataset holds, and what is wrong with it."""

    manifest: Mapping[str, Any]
    findings: tuple[str, ...]


def check_dataset(out: Path, preprocessed: Path | None) -> Checked:
    """Compare the files of a dataset with its manifest.

    Parameters
    ----------
    preprocessed
        Folder ``nnssl_preprocessed``; what nnssl made of this dataset is compared if it is there.

    Raises
    ------
    DatasetOutputError
        The folder is no dataset.
    """
    try:
        manifest = json.loads((out / MANIFEST).read_bytes())
        volumes = {str(one["id"]): one for one in manifest["volumes"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetOutputError(str(out), f"holds no {MANIFEST} of a dataset") from error
    findings = [finding for one in volumes.values() for finding in _changed(out, one)]
    findings += _broken_links(out)
    if preprocessed is not None and (preprocessed / manifest["name"]).is_dir():
        findings += _exchanged(preprocessed / manifest["name"], volumes)
    return Checked(manifest, tuple(findings))


def _changed(out: Path, volume: Mapping[str, Any]) -> Iterator[str]:
    for name, sha256 in volume["sha256"].items():
        path = out / VOLUMES / str(volume["id"]) / name
        if not path.is_file():
            yield f"{path}: missing"
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                yield f"{path}: changed"


def _broken_links(out: Path) -> Iterator[str]:
    for layout in Layout:
        for path in sorted((out / layout).rglob("*")):
            if path.is_symlink() and not path.exists():
                yield f"{path}: leads nowhere"


def _exchanged(folder: Path, volumes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say of which volumes nnssl's preprocessing exchanged the masks, by the nearest share of ones.

    Cropping and resampling change shares a little; the two masks differ by much more.
    """
    import blosc2
    import numpy as np

    wrong = compared = 0
    for mask, ending in _FILES.items():
        for path in sorted(folder.rglob(f"*{ending}")):
            volume = volumes.get(path.name.removesuffix(ending))
            if volume is None:
                continue
            share = float((np.asarray(blosc2.open(urlpath=str(path), mode="r")[:]) == 1).mean())
            (other,) = set(_FILES) - {mask}
            compared += 1
            wrong += abs(share - volume["ones"][mask]) > abs(share - volume["ones"][other])
    if wrong:
        yield (
            f"{folder}: {wrong} of {compared} masks hold what belongs in the other one; make the dataset with another "
            "--masks and preprocess it again"
        )

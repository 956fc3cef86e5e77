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
from dicom_node.datasets.volumes import ALTERED, BACKGROUND, IMAGE

_OURS: Final = {"anonymization_mask": ALTERED, "anatomy_mask": BACKGROUND}
_LEAST_DIFFERENCE: Final = 0.01  # between the shares of a volume's masks, to tell which is which
_FILES: Final = {"anonymization_mask": "__anon.b2nd", "anatomy_mask": "__anat.b2nd"}  # as nnssl names its masks


@dataclass(frozen=True, slots=True)
class Checked:
    """What a dataset holds, and what is wrong with it.

    Attributes
    ----------
    n_nnssl_masks
        How many masks that nnssl preprocessed were compared; None if it was not asked.
    """

    manifest: Mapping[str, Any]
    findings: tuple[str, ...]
    n_nnssl_masks: int | None


def check_dataset(out: Path, preprocessed: Path | None) -> Checked:
    """Compare the files of a dataset with its manifest.

    Parameters
    ----------
    preprocessed
        Folder ``nnssl_preprocessed``; what nnssl made of this dataset is compared if it is there. A folder of this
        dataset that holds none of its masks is a finding.

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
    if preprocessed is None:
        return Checked(manifest, tuple(findings), None)
    n_compared = 0
    if (folder := preprocessed / manifest["name"]).is_dir():
        n_compared, n_wrong = _count_exchanged(out, folder, volumes)
        if n_wrong:
            findings.append(
                f"{folder}: {n_wrong} of {n_compared} masks hold what belongs in the other one; make the dataset with "
                "another --masks and preprocess it again"
            )
        elif not n_compared:
            findings.append(f"{folder}: holds no masks of this dataset; run nnssl_preprocess, then check again")
    return Checked(manifest, tuple(findings), n_compared)


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


def _count_exchanged(out: Path, folder: Path, volumes: Mapping[str, Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many of nnssl's masks were compared, and how many it exchanged, by the nearest share of ones.

    Cropping and resampling change shares a little; the two masks differ by much more. Where both have nearly the same
    share, nothing can be told, and nothing is compared.
    """
    import blosc2
    import numpy as np

    wrong = compared = 0
    expected = {name: _expected_shares(out, volume) for name, volume in volumes.items()}
    for mask, ending in _FILES.items():
        for path in sorted(folder.rglob(f"*{ending}")):
            shares = expected.get(path.name.removesuffix(ending))
            if shares is None:
                continue
            (other,) = set(_FILES) - {mask}
            if abs(shares[mask] - shares[other]) < _LEAST_DIFFERENCE:
                continue
            share = float((np.asarray(blosc2.open(urlpath=str(path), mode="r")[:]) == 1).mean())
            compared += 1
            wrong += abs(share - shares[mask]) > abs(share - shares[other])
    return compared, wrong


def _expected_shares(out: Path, volume: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the share of ones in each mask after nnssl's cropping, which takes exact zeros out of both."""
    if not volume["exact_zero_air"]:
        return {mask: float(volume["ones"][mask]) for mask in _FILES}
    import nibabel as nib
    import numpy as np

    from dicom_node.datasets.facts import nonzero_box

    def read(name: str) -> Any:  # noqa: ANN401 - an array
        image: Any = nib.load(out / VOLUMES / str(volume["id"]) / name)
        return np.asanyarray(image.dataobj)

    box, outside = nonzero_box(read(IMAGE))
    return {mask: float(((read(name)[box] == 1) & ~outside).mean()) for mask, name in _OURS.items()}

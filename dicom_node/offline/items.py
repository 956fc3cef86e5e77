"""Items of an offline run: one per series or NIfTI file, each with a unique name and a digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from inference.series.assemble import assemble_volumes
from inference.series.files import Inputs, InstanceSource, PathSource, SeriesFiles
from inference.series.formats import nifti_files
from inference.series.nifti import read_nifti
from inference.series.uids import shown_uid
from inference.series.volume import SourceVolume

CHUNK_BYTES = 1 << 20
_UNSAFE = re.compile(r"[^\w.+=@-]+")


@dataclass(frozen=True, slots=True)
class Item:
    """One series or NIfTI file, and the name of its output folder."""

    name: str
    sources: tuple[InstanceSource, ...]
    nifti: Path | None = None

    def read(self) -> tuple[SourceVolume, ...]:
        """Decode the volumes."""
        return (read_nifti(self.nifti),) if self.nifti is not None else assemble_volumes(self.sources)

    def digest(self) -> str:
        """Return a SHA-256 that depends on the contents alone, not on the files' location or order."""
        digests = sorted(_content_digest(source) for source in self.sources)
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def list_items(inputs: Inputs) -> tuple[Item, ...]:
    """Return the items in a stable order, series first; a name that is already taken gets ``-2`` and so on."""
    give_name = _NameGiver()
    items = [Item(give_name(_name_of(series)), series.sources) for series in sorted(inputs.series, key=_key)]
    for path in sorted(inputs.nifti):
        sources = tuple(PathSource(file) for file in nifti_files(path))
        items.append(Item(give_name(nifti_stem(path)), sources, nifti=path))
    return tuple(items)


def nifti_stem(path: Path) -> str:
    """Return the file name without ``.nii``, ``.hdr``, ``.nii.gz`` and the like, ignoring case."""
    return re.sub(r"\.(nii|hdr)(\.gz|\.bz2)?$", "", path.name, flags=re.IGNORECASE)


def safe_name(text: str) -> str:
    """Return a valid folder name: no separators, no leading dot, never empty, limited in length."""
    return _UNSAFE.sub("_", text).lstrip(".")[:128] or "unnamed"


class _NameGiver:
    """Make names unique without regard to case, so that no file system merges two folders."""

    def __init__(self) -> None:
        self._given: set[str] = {"summary.json"}

    def __call__(self, wanted: str) -> str:
        base = safe_name(wanted)
        name, number = base, 1
        while name.casefold() in self._given:
            number += 1
            name = f"{base}-{number}"
        self._given.add(name.casefold())
        return name


def _name_of(series: SeriesFiles) -> str:
    """The Series Instance UID; a number made of it where it holds other text, which may be a patient's name."""
    uid = series.series_instance_uid
    return uid if shown_uid(uid) == uid else f"series-{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


def _key(series: SeriesFiles) -> tuple[str, str]:
    return series.series_instance_uid, series.study_instance_uid


def _content_digest(source: InstanceSource) -> str:
    digest = hashlib.sha256()
    with source.open() as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

"""The last step of a dataset: layouts, ``manifest.json``, the page and the pictures of what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dicom_node
from dicom_node.datasets.layouts import VOLUMES, Entry, Layout, MaskMode, Name, write_layouts
from dicom_node.datasets.notes import notes_on
from dicom_node.datasets.page import render_page
from dicom_node.datasets.volumes import Refusal, encode_json
from dicom_node.offline.names import PAGE
from dicom_node.offline.replacing import PARTIAL_PREFIX, sync

MANIFEST: Final = "manifest.json"
PICTURES: Final = "refused"
PREPARED: Final = "prepared"  # what `pretrain` adds
OWN_NAMES: Final = frozenset({MANIFEST, VOLUMES, PAGE, PICTURES, PREPARED, *Layout})


@dataclass(frozen=True, slots=True)
class Options:
    """What a dataset is to be."""

    layouts: tuple[Layout, ...]
    mode: MaskMode
    name: Name
    workers: int


@dataclass(frozen=True, slots=True, eq=False)
class RefusedVolume:
    """A volume that is not in the dataset: its ID, how the manifest names it, where it is from, and why."""

    id: str
    name: str
    source: str
    refusal: Refusal


def finish_dataset(
    out: Path,
    entries: Sequence[Entry],
    refused: Sequence[RefusedVolume],
    repeated: Sequence[tuple[str, str]],
    options: Options,
    *,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write all that a dataset has besides its volumes, and return the manifest.

    Parameters
    ----------
    repeated
        Name and ID of each volume that was found once more.
    more
        What else the manifest says.
    """
    write_layouts(out, entries, options.layouts, name=options.name, mode=options.mode)
    manifest = _manifest(entries, refused, repeated, options) | dict(more or {})
    _write_pictures(out / PICTURES, refused)
    _write(out / MANIFEST, encode_json(manifest))
    _write(out / PAGE, "".join(render_page(manifest)).encode())
    return manifest


def _manifest(
    entries: Sequence[Entry],
    refused: Sequence[RefusedVolume],
    repeated: Sequence[tuple[str, str]],
    options: Options,
) -> dict[str, Any]:
    volumes = [
        {**entry.record, "subject": entry.place.subject, "session": entry.place.session}
        for entry in sorted(entries, key=lambda entry: entry.id)
    ]
    return {
        "node_version": dicom_node.__version__,
        "name": options.name.folder,
        "layouts": list(options.layouts),
        "masks": options.mode,
        "notes": notes_on(entries, options.layouts, options.mode),
        "n_volumes": len(volumes),
        "n_subjects": len({volume["subject"] for volume in volumes}),
        "n_refused": len(refused),
        "volumes": volumes,
        "refused": [
            {
                "result": one.name,
                "source": one.source,
                "code": one.refusal.code,
                "reason": one.refusal.reason,
                "picture": None if one.refusal.picture is None else f"{PICTURES}/{one.id}.png",
            }
            for one in refused
        ],
        "repeated": [{"result": name, "id": volume_id} for name, volume_id in repeated],
    }


def _write_pictures(folder: Path, refused: Sequence[RefusedVolume]) -> None:
    """Replace the pictures of refused volumes."""
    for old in folder.glob("v*.png"):
        old.unlink()
    for one in refused:
        if one.refusal.picture is not None:
            folder.mkdir(exist_ok=True)
            (folder / f"{one.id}.png").write_bytes(one.refusal.picture)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    partial_path = path.with_name(f"{PARTIAL_PREFIX}{path.name}")
    partial_path.write_bytes(content)
    sync(partial_path)
    partial_path.replace(path)

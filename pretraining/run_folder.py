"""The folder of a run: what was asked, which volumes it saw, and the refusal of another question in the same folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pretraining.dataset import StoredVolume
from pretraining.errors import RunRefused, VolumeRefused

CONFIG, VOLUMES = "config.yaml", "volumes.json"
_MOST_TOLD: Final = 6


def open_run(folder: Path, config: Mapping[str, Any]) -> bool:
    """Make the folder of a run, or check that it holds a run of the same config; return whether it does.

    Raises
    ------
    RunRefused
        The folder holds a run of another config, told by its differences; or other files.
    """
    path = folder / CONFIG
    if path.is_file():
        before = yaml.safe_load(path.read_text("utf-8"))
        told = differences(before if isinstance(before, dict) else {}, json.loads(json.dumps(config)))
        if told:
            more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
            raise RunRefused(
                str(folder),
                f"holds a run with other settings ({'; '.join(told[:_MOST_TOLD])}{more}); use these, or a new folder",
            )
        return True
    if folder.is_dir() and any(folder.iterdir()):
        raise RunRefused(str(folder), "is not empty and holds no run; use a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{CONFIG}.part")
    partial.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, allow_unicode=True), "utf-8")
    partial.replace(path)
    return False


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return what differs between two configs, each as ``key: old, now new``."""
    told = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            told += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            told.append(f"{prefix}{key}: {_short(old)} in it, {_short(new)} now")
    return told


def volumes_digest(volumes: Sequence[StoredVolume]) -> str:
    """Return a digest of the contents of all volumes."""
    told = "\n".join(f"{volume.id} {volume.sha256}" for volume in volumes)
    return hashlib.sha256(told.encode()).hexdigest()


def write_volumes(folder: Path, volumes: Sequence[StoredVolume], refused: Mapping[str, VolumeRefused]) -> None:
    """List the volumes that the run sees, with their digests, and those that it does not, with the reason."""
    content = {
        "volumes": [{"id": volume.id, "sha256": volume.sha256} for volume in volumes],
        "refused": [{"id": name, "code": one.reason_code, "reason": str(one)} for name, one in refused.items()],
    }
    (folder / VOLUMES).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"

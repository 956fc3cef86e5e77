"""Keep the state of a run in a file that is always whole, and take it back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch

from pretraining.errors import DiskFullError, RunRefused

LATEST = "checkpoint_latest.pth"
FORMAT = 1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state; the one before stays until the new one is on the disk.

    Raises
    ------
    DiskFullError
        There is no space; the state that was saved before is still there.
    """
    partial = folder / f"{LATEST}.part"
    try:
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / LATEST)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError for what the file raised
        partial.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFullError(str(folder)) from error
        raise


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the saved state on the CPU, or None if there is none.

    Raises
    ------
    RunRefused
        The file is damaged, or of another version.
    """
    path = folder / LATEST
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers meet
        raise RunRefused(str(path), "cannot be read; remove it to start again, or restore it from a copy") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunRefused(str(path), "was written by another version; finish the run with that one, or use a new folder")
    return state


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says, or was raised because, there is no space left."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False

"""File modes of the data directory: the node's user and its group, nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

UMASK = 0o027
FOLDER_MODE = 0o777 & ~UMASK
FILE_MODE = 0o666 & ~UMASK


def make_private_folder(folder: Path) -> None:
    """Create a folder with mode 0750 unless it exists; parents get the default mode of the process."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Create an empty file with mode 0640 unless it exists."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))


def mode_open_to_others(folder: Path) -> str | None:
    """Return the mode of a folder, such as ``0755``, if users outside its group may enter or list it."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:  # it does not exist yet, or this user may not look at it
        return None
    return f"{mode:04o}" if mode & stat.S_IRWXO else None

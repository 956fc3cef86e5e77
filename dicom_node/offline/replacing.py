"""Folders that appear completely or not at all, also when the process is killed or another one writes the same."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PARTIAL_PREFIX: Final = ".partial-"
_OLD_PREFIX: Final = ".old-"
_ATTEMPT: Final = "~"  # between the name of a folder and the attempt to write it; no name of a result holds it
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``folder`` once its contents are on disk.

    Every attempt writes to a folder of its own: on a cluster, a worker that was given up for dead may still write the
    same volume. Whoever ends last replaces the other's folder, and each of them is complete.
    """
    attempt = f"{folder.name}{_ATTEMPT}{secrets.token_hex(4)}"
    partial, old = (folder.with_name(f"{prefix}{attempt}") for prefix in (PARTIAL_PREFIX, _OLD_PREFIX))
    partial.mkdir()
    try:
        yield partial
        for path in (*partial.iterdir(), partial):
            sync(path)
        _put(partial, folder, old)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync(folder.parent)


def clear_left_overs(root: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove what killed attempts left in a folder, of the names that are ours."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.name.startswith((PARTIAL_PREFIX, _OLD_PREFIX))]
    for name in names:
        if is_ours(name.removeprefix(PARTIAL_PREFIX).removeprefix(_OLD_PREFIX).partition(_ATTEMPT)[0]):
            shutil.rmtree(root / name, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(partial: Path, folder: Path, old: Path) -> None:
    """Give a folder its name; whatever has the name, even since a moment ago, is removed."""
    while True:
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return
        with suppress(FileNotFoundError):  # another attempt has just moved it away
            folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)

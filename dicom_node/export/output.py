"""The output folder: check its key and project, lock it against other runs, and publish whole studies in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.export.errors import OutputFolderError
from dicom_node.export.pseudonyms import Pseudonyms

STAGING_FOLDER: Final = ".staging"
LOCK_FILE: Final = ".lock"
PROJECT_FILE: Final = ".project"


def check_output(output: Path, pseudonyms: Pseudonyms) -> None:
    """Create the folder for this key and project, or check that it was created for them.

    Raises
    ------
    OutputFolderError
        It belongs to another key or project, holds other files, or cannot be written.
    """
    mark = output / PROJECT_FILE
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(path.is_symlink() for path in output.iterdir()):
            raise OutputFolderError("holds symbolic links, through which copies would go elsewhere", "remove them")
        known = mark.read_text(encoding="ascii", errors="replace").strip() if mark.is_file() else None
        if known is None and any(output.iterdir()):
            raise OutputFolderError("holds files, but none that this command made", "name an empty folder")
        if known is None:
            mark.write_text(pseudonyms.fingerprint() + "\n", encoding="ascii")
    except OSError as error:
        raise OutputFolderError(
            f"cannot be used ({type(error).__name__})", "name a folder that can be written"
        ) from error
    if known not in (None, pseudonyms.fingerprint()):
        raise OutputFolderError(
            "was made with another key or for another project",
            "use the same --key-file and --project, or another folder: a changed key is a new project",
        )


@contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Lock the folder against other runs during the block."""
    try:
        descriptor = os.open(output / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise OutputFolderError(f"cannot be written ({error.strerror})", "name a folder that can be written") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise OutputFolderError("another run writes into it", "wait for its end, or name another folder") from error
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Put every file and folder below ``folder`` on disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def publish(staged: Path, target: Path) -> None:
    """Publish a whole study, synced by `sync_tree`, by renaming its folder; one from an earlier run is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(staged.with_name(f"{staged.name}.old"))
    staged.replace(target)
    _sync(target.parent)
    _sync(target.parent.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

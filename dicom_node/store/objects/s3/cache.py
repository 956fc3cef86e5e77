"""Local copies of objects: bounded, shared by the processes of a machine, and never believed after a restart.

Copies lie in a folder of the boot in which they were written: what a power failure left half on disk is in a folder
with another name, and is compared with its digest before it is used. Copies are files that were complete before they
got their name, so a killed process leaves at most a file in the spool. How much there is is counted in a file under a
lock; what does not fit is made room for by deleting the copies that were not used for longest.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from dicom_node.store.objects.files import dataset_digest
from dicom_node.store.objects.object_store import OBJECT_SUFFIX
from part10.errors import NotPart10Error

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_COUNT: Final = "bytes"


class ReadCache:
    """A folder of copies, on the file system of the spool.

    Parameters
    ----------
    max_bytes
        Of all copies together.
    min_free_bytes
        Of the file system, which copies leave to the spool.
    """

    def __init__(self, folder: Path, *, max_bytes: int, min_free_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        boot = _boot_id()
        self._now = folder / boot
        self._now.mkdir(parents=True, exist_ok=True)
        self._earlier = [path for path in folder.iterdir() if path.is_dir() and path != self._now]

    def open(self, digest: str) -> BinaryIO | None:
        """Open the copy of an object; None if there is none. From then on it counts as the last one used."""
        path = self._path(digest)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if not self._take_over(digest):
                return None
            with suppress(FileNotFoundError):
                return path.open("rb")
            return None
        with suppress(OSError):  # deleted meanwhile
            os.utime(path)
        return file

    def keep(self, digest: str, temporary: Path) -> None:
        """Link a complete file as the copy of an object, if there is room for it; its own name stays."""
        n_bytes = temporary.stat().st_size
        if not self.make_room(n_bytes):
            return
        path = self._path(digest)
        try:
            try:
                os.link(temporary, path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(temporary, path)
        except OSError:  # it is there already, or the disk does not take it: then it is read again
            self._count(-n_bytes)

    def make_room(self, n_bytes: int) -> bool:
        """Delete other copies until there is room, and count the bytes; False, with nothing counted, if there is none.

        A process that ends between this and the copy leaves the count too high, until the next one counts again.
        """
        if n_bytes > self._max_bytes:
            return False
        with self._counter() as total:
            lacking = max(total.value + n_bytes - self._max_bytes, self._min_free_bytes + n_bytes - self._free_bytes())
            if lacking > 0:
                total.value = self._shrink(max(0, total.value - lacking - self._max_bytes // 20))
                if self._free_bytes() < self._min_free_bytes + n_bytes or total.value + n_bytes > self._max_bytes:
                    return False
            total.value += n_bytes
        return True

    def drop(self, digest: str) -> None:
        """Delete the copies of an object."""
        for folder in (self._now, *self._earlier):
            path = self._path(digest, folder)
            with suppress(FileNotFoundError):
                n_bytes = path.stat().st_size
                path.unlink()
                self._count(-n_bytes)

    def clear(self) -> None:
        """Delete all copies."""
        with self._counter() as total:
            total.value = self._shrink(0)

    def n_bytes(self) -> int:
        """Return how many bytes are counted."""
        with self._counter() as total:
            return total.value

    def digests(self) -> Iterator[str]:
        """Yield the objects that have a copy."""
        for path in self.folder.glob(f"*/??/*{OBJECT_SUFFIX}"):
            yield path.stem

    def _take_over(self, digest: str) -> bool:
        """Use the copy of an earlier boot, if it is sound."""
        for folder in self._earlier:
            earlier = self._path(digest, folder)
            try:
                is_sound = dataset_digest(earlier) == digest
            except (OSError, NotPart10Error):
                is_sound = False
            if is_sound:
                path = self._path(digest)
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    earlier.replace(path)
                return True
            if earlier.exists():
                self.drop(digest)
        return False

    def _shrink(self, n_bytes: int) -> int:
        """Delete the copies that were not used for longest until so many bytes are left; return how many are."""
        found = []
        for path in self.folder.glob(f"*/??/*{OBJECT_SUFFIX}"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= n_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _count(self, n_bytes: int) -> None:
        with self._counter() as total:
            total.value = max(0, total.value + n_bytes)

    @contextmanager
    def _counter(self) -> Iterator[_Total]:
        """Hold the count, for this process and others; it is written back at the end."""
        fd = os.open(self.folder / _COUNT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            text = os.pread(fd, 32, 0)
            total = _Total(int(text) if text.strip().isdigit() else self._sum())
            yield total
            os.pwrite(fd, b"%-31d\n" % total.value, 0)
        finally:
            os.close(fd)

    def _sum(self) -> int:
        return sum(_size(path) for path in self.folder.glob(f"*/??/*{OBJECT_SUFFIX}"))

    def _free_bytes(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def _path(self, digest: str, folder: Path | None = None) -> Path:
        return (folder or self._now) / digest[:2] / f"{digest}{OBJECT_SUFFIX}"


class _Total:
    """Bytes of all copies."""

    def __init__(self, value: int) -> None:
        self.value = value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _boot_id() -> str:
    """Return what differs between two starts of this machine; where that is unknown, between two of this program."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(8)

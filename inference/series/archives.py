"""Zip archives as sources: read in place, never unpacked to a path."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from inference.series.limits import MAX_ARCHIVE_BYTES, MAX_ARCHIVE_MEMBERS, MAX_OBJECT_BYTES
from inference.series.rejected import Rejected
from inference.series.walk import (
    APPLE_FOLDER,
    APPLE_MAGIC,
    APPLE_PREFIX,
    hidden_folder,
    is_system_name,
    system_file,
)

_NIFTI = re.compile(r"\.nii(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(zip|7z|rar|tgz|(tar|dcm|dicom|ima)\.(gz|bz2|xz|zst)|tar)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ZipMemberSource:
    """An instance in a zip archive; read from there, never unpacked to a path."""

    archive: Path
    member: str

    @property
    def name(self) -> str:
        """Archive and member."""
        return f"{self.archive}:{self.member}"

    def open(self) -> BinaryIO:
        """Open the member; its bytes end where the archive's directory says."""
        status = self.archive.stat()
        archive = _open_archive(self.archive, status.st_mtime_ns, status.st_size)
        try:
            return cast("BinaryIO", archive.open(self.member))
        except (KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise OSError(0, f"member cannot be opened: {type(error).__name__}") from error


@lru_cache(maxsize=4)
def _open_archive(path: Path, _mtime_ns: int, _n_bytes: int) -> zipfile.ZipFile:
    """Read an archive's directory once, not once for each member."""
    return zipfile.ZipFile(path)


def archive_members(path: Path, rejected: list[Rejected]) -> Iterator[ZipMemberSource]:
    """Yield the files in an archive, within the limits on size and number; others are added to ``rejected``."""
    try:
        status = path.stat()
        members = _open_archive(path, status.st_mtime_ns, status.st_size).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error) as error:
        rejected.append(Rejected(str(path), "unreadable", f"{path}: a damaged zip archive ({type(error).__name__})"))
        return
    n_bytes = sum(member.file_size for member in members)
    if len(members) > MAX_ARCHIVE_MEMBERS or n_bytes > MAX_ARCHIVE_BYTES:
        reason = (
            f"{path}: {len(members)} members of {n_bytes} bytes, expected at most {MAX_ARCHIVE_MEMBERS} of "
            f"{MAX_ARCHIVE_BYTES}; divide the archive"
        )
        rejected.append(Rejected(str(path), "archive-too-large", reason))
        return
    hidden: set[str] = set()
    for member in members:
        if member.is_dir():
            continue
        source = ZipMemberSource(path, member.filename)
        if (folder := _hidden_folder(member.filename)) is not None:
            if folder not in hidden:
                rejected.append(hidden_folder(f"{path}:{folder}"))
            hidden.add(folder)
            continue
        if _is_system_file(source):
            rejected.append(system_file(source.name))
            continue
        if (refusal := _member_refusal(member)) is not None:
            rejected.append(Rejected(source.name, refusal[0], f"{source.name}: {refusal[1]}"))
        else:
            yield source


def _member_refusal(member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Return code and reason if a member must not be opened, else None."""
    if member.flag_bits & 0x1:
        return "encrypted", "encrypted; unpack it first"
    if member.file_size > MAX_OBJECT_BYTES:
        return "object-too-large", f"{member.file_size} bytes, expected at most {MAX_OBJECT_BYTES}"
    if _NIFTI.search(member.filename):
        return "nifti-in-archive", "a NIfTI file in an archive; unpack it first"
    if _ARCHIVE.search(member.filename):
        return "archive-in-archive", "an archive or compressed file in an archive; unpack it first"
    return None


def _hidden_folder(member: str) -> str | None:
    """Return the outermost hidden folder that contains a member, else None."""
    parts = PurePosixPath(member).parts[:-1]
    for depth, part in enumerate(parts, start=1):
        if part.startswith(".") and part != "..":
            return str(PurePosixPath(*parts[:depth]))
    return None


def _is_system_file(source: ZipMemberSource) -> bool:
    """Whether the file was added by an operating system and not by the user."""
    path = PurePosixPath(source.member)
    if APPLE_FOLDER in path.parts[:-1] or is_system_name(path.name):
        return True
    if not path.name.startswith(APPLE_PREFIX):
        return False
    try:
        with source.open() as stream:
            head = stream.read(len(APPLE_MAGIC[0]))
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile):  # whoever reads the member says so
        return False
    return not head or head in APPLE_MAGIC

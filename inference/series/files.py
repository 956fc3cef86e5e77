"""What the given paths hold: series, NIfTI files, and what is left out, with the reason."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from inference.series.errors import UnreadableError, UnsuitableObjectError
from inference.series.instances import InstanceSource, read_damaged_identity, read_header, reading
from inference.series.limits import MAX_ARCHIVE_BYTES, MAX_ARCHIVE_MEMBERS, MAX_OBJECT_BYTES
from inference.series.objects import check_suitable

__all__ = ["Inputs", "InstanceSource", "PathSource", "Rejected", "SeriesFiles", "ZipMemberSource", "find_inputs"]

NIFTI_ENDINGS = (".nii", ".nii.gz", ".nii.bz2")


@dataclass(frozen=True, slots=True)
class PathSource:
    """An instance in a file of its own."""

    path: Path

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self.path)

    def open(self) -> BinaryIO:
        """Open the file."""
        return self.path.open("rb")


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


@dataclass(frozen=True, slots=True)
class SeriesFiles:
    """The image instances of one series, in the order in which they were found."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    sources: tuple[InstanceSource, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that is left out, and why; ``code`` is stable."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that was found."""

    series: tuple[SeriesFiles, ...]
    nifti: tuple[Path, ...]
    rejected: tuple[Rejected, ...]


def find_inputs(paths: Sequence[Path]) -> Inputs:
    """Look through folders (with all below), zip archives and files.

    Symbolic links to folders are not followed. Nothing is unpacked. Only headers are read.

    Returns
    -------
    Inputs
        Series in order of first appearance; whatever is no CT or MR image and no NIfTI file is in ``rejected``.
    """
    sources: list[InstanceSource] = []
    nifti: list[Path] = []
    rejected: list[Rejected] = []
    seen: set[Path] = set()
    for path in paths:
        for file in _files_under(path, rejected):
            resolved = file.resolve()
            if resolved in seen:
                continue
            seen.add(resolved)
            if file.name.lower().endswith(NIFTI_ENDINGS):
                nifti.append(file)
            elif _is_zip(file):
                sources.extend(_members(file, rejected))
            else:
                sources.append(PathSource(file))
    return Inputs(_series_of(sources, rejected), tuple(nifti), tuple(rejected))


def _series_of(sources: Sequence[InstanceSource], rejected: list[Rejected]) -> tuple[SeriesFiles, ...]:
    """Group image instances by Series Instance UID; the others go to ``rejected``.

    A damaged image of which the series can be told stays in it, so that the series is refused by name: without it the
    volume would have a hole, or end too early.
    """
    found: dict[str, tuple[str, str, list[InstanceSource]]] = {}
    for source in sources:
        try:
            try:
                ds = read_header(source)
            except UnreadableError as error:
                ds = read_damaged_identity(source, error)
            with reading(source.name):
                check_suitable(ds, source.name)
                uids = str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID), str(ds.get("Modality") or "")
        except UnsuitableObjectError as error:
            rejected.append(Rejected(source.name, error.code, str(error)))
            continue
        found.setdefault(uids[0], (uids[1], uids[2], []))[2].append(source)
    return tuple(SeriesFiles(uid, study, modality, tuple(group)) for uid, (study, modality, group) in found.items())


def _files_under(path: Path, rejected: list[Rejected]) -> Iterator[Path]:
    """Regular files of ``path``, in the order of their names."""

    def note(error: OSError) -> None:
        rejected.append(Rejected(str(error.filename), "unreadable", f"{error.filename}: {error.strerror}"))

    if path.is_dir():
        for folder, folders, names in os.walk(path, onerror=note):
            folders.sort()
            for name in sorted(names):
                yield from _regular(Path(folder) / name, rejected)
    else:
        yield from _regular(path, rejected)


def _regular(path: Path, rejected: list[Rejected]) -> Iterator[Path]:
    """The path if it is a regular file; opening a pipe or a device could wait for ever."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        code = "not-found" if isinstance(error, FileNotFoundError) else "unreadable"
        rejected.append(Rejected(str(path), code, f"{path}: {error.strerror}"))
        return
    if is_regular:
        yield path
    else:
        rejected.append(Rejected(str(path), "not-a-file", f"{path}: neither a file nor a folder; it is left out"))


def _is_zip(path: Path) -> bool:
    """Whether the file begins as a zip archive does; a DICOM preamble may hold anything, but not usually this."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and head[128:] != b"DICM"


@lru_cache(maxsize=4)
def _open_archive(path: Path, _mtime_ns: int, _n_bytes: int) -> zipfile.ZipFile:
    """Read an archive's directory once, not once for each member."""
    return zipfile.ZipFile(path)


def _members(path: Path, rejected: list[Rejected]) -> Iterator[ZipMemberSource]:
    """The files in an archive, within bounds."""
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
    for member in members:
        if member.is_dir():
            continue
        source = ZipMemberSource(path, member.filename)
        if (refusal := _member_refusal(member)) is not None:
            rejected.append(Rejected(source.name, refusal[0], f"{source.name}: {refusal[1]}"))
        else:
            yield source


def _member_refusal(member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Code and reason why a member is not even opened."""
    if member.flag_bits & 0x1:
        return "encrypted", "encrypted; unpack it first"
    if member.file_size > MAX_OBJECT_BYTES:
        return "object-too-large", f"{member.file_size} bytes, expected at most {MAX_OBJECT_BYTES}"
    name = member.filename.lower()
    if name.endswith(NIFTI_ENDINGS):
        return "nifti-in-archive", "a NIfTI file in an archive; unpack it first"
    if name.endswith(".zip"):
        return "archive-in-archive", "an archive in an archive; unpack it first"
    return None

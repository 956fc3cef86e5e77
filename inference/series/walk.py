"""Find the files below given paths, without hidden folders, second links to a file, and files of operating systems."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from inference.series.rejected import Rejected

APPLE_MAGIC = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")  # AppleDouble and AppleSingle, RFC 1740
APPLE_FOLDER = "__MACOSX"
APPLE_PREFIX = "._"
SYSTEM_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
ANNEX_FOLDER = ".git/annex/objects/"
ANNEX_COMMAND = "git annex get {0} (or datalad get {0})"


def files_under(paths: Sequence[Path], rejected: list[Rejected]) -> Iterator[Path]:
    """Regular files at and below ``paths``, each once, by its visible path.

    A folder's own files and folders come first, in the order of their names; then what links lead to. A folder is
    searched once, and never through a link that leads to a folder around the input. Hidden folders are searched only
    where they are named in ``paths`` or linked to.

    Parameters
    ----------
    rejected
        Takes what is left out.
    """
    found: dict[Path, Path] = {}
    searched: set[Path] = set()
    for path in paths:
        for file in _files_at(path, searched, rejected):
            first = found.setdefault(file.resolve(), file)
            if first is file:
                yield file
            elif first != file:
                rejected.append(Rejected(str(file), "same-file", f"{file}: the same file as {first}; it counts once"))


def is_system_name(name: str) -> bool:
    """Whether operating systems leave files of this name, whatever is in them."""
    return name.lower() in SYSTEM_NAMES


def system_file(name: str) -> Rejected:
    """What an operating system left."""
    return Rejected(name, "system-file", f"{name}: left by an operating system, not an image")


def hidden_folder(name: str) -> Rejected:
    """A folder that was not searched."""
    return Rejected(name, "hidden-folder", f"{name}: a hidden folder, not searched; name it if it holds images")


def not_fetched(path: Path, command: str) -> Rejected:
    """A file whose content lies elsewhere; ``command`` fetches ``{0}``."""
    reason = f"{path}: its content was not fetched; get it with: {command.format(path.name)}"
    return Rejected(str(path), "content-not-fetched", reason)


def _files_at(path: Path, searched: set[Path], rejected: list[Rejected]) -> Iterator[Path]:
    """What lies at and below one input."""
    if path.name == APPLE_FOLDER:
        rejected.append(system_file(str(path)))
    elif not path.is_dir():
        yield from _usable([path], rejected)
    elif path.resolve() not in searched:
        around = path.resolve().parents
        links: list[Path] = []
        yield from _below(path, searched, links, rejected)
        while links:
            link = links.pop(0)
            target = link.resolve()
            if target in searched or target in around:
                reason = f"{link}: a link to a folder that was searched already or that holds the input; not followed"
                rejected.append(Rejected(str(link), "linked-folder", reason))
            else:
                yield from _below(link, searched, links, rejected)


def _below(root: Path, searched: set[Path], links: list[Path], rejected: list[Rejected]) -> Iterator[Path]:
    """Files in a folder and in the folders below it; links to other folders are added to ``links``."""

    def note(error: OSError) -> None:
        rejected.append(Rejected(str(error.filename), "unreadable", f"{error.filename}: {error.strerror}"))

    for name, folders, files in os.walk(root, onerror=note):
        folder = Path(name)
        real = folder.resolve()
        if real in searched:
            folders.clear()
            continue
        searched.add(real)
        folders[:] = list(_visible(folder, sorted(folders), links, rejected))
        yield from _usable((folder / file for file in sorted(files)), rejected)


def _visible(folder: Path, names: Iterable[str], links: list[Path], rejected: list[Rejected]) -> Iterator[str]:
    """Names of folders to be searched now."""
    for name in names:
        path = folder / name
        if name == APPLE_FOLDER:
            rejected.append(system_file(str(path)))
        elif name.startswith("."):
            rejected.append(hidden_folder(str(path)))
        elif path.is_symlink():
            links.append(path)
        else:
            yield name


def _usable(paths: Iterable[Path], rejected: list[Rejected]) -> Iterator[Path]:
    """Regular files; opening a pipe or a device could block without end."""
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            rejected.append(_unreachable(path, error))
            continue
        if not stat.S_ISREG(mode):
            rejected.append(Rejected(str(path), "not-a-file", f"{path}: neither a file nor a folder; it is left out"))
        elif is_system_name(path.name) or (path.name.startswith(APPLE_PREFIX) and _is_apple_double(path)):
            rejected.append(system_file(str(path)))
        else:
            yield path


def _unreachable(path: Path, error: OSError) -> Rejected:
    """Why a path leads nowhere."""
    if not isinstance(error, FileNotFoundError):
        return Rejected(str(path), "unreadable", f"{path}: {error.strerror}")
    if not path.is_symlink():
        return Rejected(str(path), "not-found", f"{path}: {error.strerror}")
    target = path.readlink()
    if ANNEX_FOLDER in target.as_posix():
        return not_fetched(path, ANNEX_COMMAND)
    return Rejected(str(path), "not-found", f"{path}: a link to {target}, which is not there")


def _is_apple_double(path: Path) -> bool:
    """Whether a file whose name begins with ``._`` holds what macOS keeps next to a file, or nothing at all."""
    try:
        with path.open("rb") as file:
            head = file.read(len(APPLE_MAGIC[0]))
    except OSError:  # whoever reads the file says so
        return False
    return not head or head in APPLE_MAGIC

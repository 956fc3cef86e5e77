"""Files of folders and archives that are no images, and that nobody wants to read about one by one."""

from __future__ import annotations

from typing import Final

_OF_SYSTEMS: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_KNOWN: Final = (
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive"),
    (b"Rar!", 0, "a RAR archive"),
    (b"BZh", 0, "a bzip2 archive"),
    (b"\xfd7zXZ", 0, "an xz archive"),
)


def left_out_because(name: str) -> str:
    """Return why a file is left out, by its path; empty if it is to be read."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts:
        return ""
    if parts[-1].upper() == "DICOMDIR":
        return "the directory of a medium; the node reads the images themselves"
    if parts[-1].lower() in _OF_SYSTEMS or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "a hidden file"
    return ""


def foreign_because(head: bytes) -> str:
    """Return why a file that begins so is not stored."""
    if not head:
        return "an empty file"
    for magic, at, what in _KNOWN:
        if head[at : at + len(magic)] == magic:
            return f"{what}; unpack it, or make a zip archive of its files"
    return "no DICOM file"

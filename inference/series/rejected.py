"""What is left out before anybody reads it as an image, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that is left out, and why; ``code`` is stable."""

    name: str
    code: str
    reason: str


# Codes of files and folders. Codes of DICOM objects are those of the errors in ``inference.series.errors``.
FILE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "archive": "an archive other than zip (tar, 7z, rar); unpack it",
        "archive-in-archive": "an archive in a zip; unpack it",
        "archive-too-large": "a zip with more or larger members than are read; divide it",
        "compressed": "a compressed file that is not read as it is; unpack it",
        "content-not-fetched": "a stand-in of git-annex, DataLad or Git LFS for content that lies elsewhere; fetch it",
        "encrypted": "an encrypted member of a zip; unpack it",
        "hidden-folder": "a folder whose name begins with a dot; name it to have it searched",
        "linked-folder": "a link to a folder that was searched already, or that holds the input",
        "nifti-in-archive": "a NIfTI file in a zip; unpack it",
        "not-a-file": "a pipe, socket or device",
        "not-found": "a link to nothing, or a path that vanished",
        "other-format": "an image in a format that is not read (Analyze, MGH, NRRD, MetaImage, MINC); convert it",
        "same-file": "a second name of a file that was found already; it counts once, by the first name",
        "series-uid-per-slice": "slices that each came as a series of their own; anonymise the study again",
        "system-file": "left by an operating system: AppleDouble, __MACOSX, .DS_Store, Thumbs.db, desktop.ini",
        "unreadable": "a file, folder or zip that cannot be read",
    }
)

"""List the input files in a fixed order, so that a number identifies a file without its path."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from dicom_node.export.errors import OutputFolderError
from inference.series.archives import archive_members
from inference.series.files import PathSource
from inference.series.formats import FileKind, recognise
from inference.series.instances import InstanceSource
from inference.series.rejected import Rejected
from inference.series.walk import files_under


def find_sources(paths: Sequence[Path], *, without: Path) -> tuple[InstanceSource, ...]:
    """Return the files at and below ``paths`` and in zip archives there, except those below ``without``."""
    rejected: list[Rejected] = []
    sources: list[InstanceSource] = []
    excluded = without.resolve()
    for file in files_under(paths, rejected):
        if excluded in file.resolve().parents:
            continue
        if recognise(file).kind is FileKind.ZIP:
            sources.extend(archive_members(file, rejected))
        else:
            sources.append(PathSource(file))
    return tuple(sources)


def write_crosswalk(path: Path, sources: Sequence[InstanceSource], output: Path) -> None:
    """Write the name of each file number, readable only by the owner.

    Raises
    ------
    OutputFolderError
        The file would be in the folder of the copies, or cannot be written.
    """
    if output.resolve() in path.resolve().parents:
        raise OutputFolderError("--crosswalk is in it, and may contain names", "write the crosswalk elsewhere")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            for number, source in enumerate(sources, start=1):
                file.write(json.dumps({"file_number": number, "name": source.name}) + "\n")
    except OSError as error:
        raise OutputFolderError(f"the crosswalk cannot be written ({error.strerror})", "name another file") from error

"""Survey of the inputs of an offline run: items to segment, inputs that failed, and files that are not used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.offline.errors import NothingFoundError
from dicom_node.offline.items import Item, list_items
from inference.series.files import Inputs, Look, PathSource, Rejected, ZipMemberSource, find_inputs, look_in_turn

# A study contains such objects besides its CT and MR images; leaving them out is not a failure.
NOT_MEANT_CODES = frozenset(
    {
        "colour-image",
        "derived-map",
        "dicomdir",
        "encapsulated-document",
        "hidden-folder",
        "linked-folder",
        "localizer",
        "not-ct-or-mr",
        "not-dicom",
        "other-format",
        "parametric-map",
        "pet",
        "presentation-state",
        "radiotherapy-object",
        "raw-data",
        "same-file",
        "secondary-capture",
        "segmentation",
        "spectroscopy",
        "structured-report",
        "system-file",
    }
)
# Not a failure even if they are named on the command line: a shell pattern names every file of a folder.
NEVER_FAILURE_CODES = frozenset({"same-file", "system-file"})
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, slots=True)
class Survey:
    """The items of a run, and what is known before it begins."""

    items: tuple[Item, ...]
    failed: tuple[Rejected, ...]
    not_used: tuple[Rejected, ...]


def survey_inputs(paths: Sequence[Path], look: Look = look_in_turn) -> Survey:
    """Survey the inputs; ``look`` reads the headers.

    A file that was named on the command line, or claims to be DICOM, and cannot be used has failed; a report or a
    scout in a folder with the images is only not used. An input without any usable file has failed.
    """
    inputs = find_inputs(paths, look)
    named = {str(path) for path in paths}
    failed = [rejected for rejected in inputs.rejected if _is_failure(rejected, named)]
    not_used = [rejected for rejected in inputs.rejected if not _is_failure(rejected, named)]
    never = {rejected.name for rejected in not_used if rejected.code in NEVER_FAILURE_CODES}
    for path in _barren(paths, [*_files(inputs), *(_path_of(rejected) for rejected in failed)]):
        if str(path) not in never:
            error = NothingFoundError(str(path), _instead(path, not_used))
            failed.append(Rejected(str(path), error.code, str(error)))
    return Survey(list_items(inputs), tuple(failed), tuple(not_used))


def _is_failure(rejected: Rejected, named: set[str]) -> bool:
    if rejected.code in NEVER_FAILURE_CODES:
        return False
    if rejected.name in named or rejected.code not in NOT_MEANT_CODES:
        return True
    return rejected.code == "not-dicom" and rejected.name.lower().endswith(DICOM_ENDINGS)


def _instead(path: Path, not_used: Sequence[Rejected]) -> str:
    """Return what an input contains instead, counted by kind, with one example of the most frequent."""
    below = [rejected for rejected in not_used if path == (place := _path_of(rejected)) or path in place.parents]
    counts = Counter(rejected.code for rejected in below).most_common()
    if not counts:
        return ""
    example = next(rejected for rejected in below if rejected.code == counts[0][0])
    return f"{', '.join(f'{number} × {code}' for code, number in counts)}, such as {example.reason}"


def _path_of(rejected: Rejected) -> Path:
    """Return the path of a rejected file; for a member of an archive, the archive's path."""
    candidates = (Path(rejected.name[: match.start()]) for match in re.finditer(":", rejected.name))
    return next((archive for archive in candidates if archive.is_file()), Path(rejected.name))


def _files(inputs: Inputs) -> Iterable[Path]:
    """Yield the files of items and of slices that failed together; for members of an archive, the archive."""
    for sources in (*(series.sources for series in inputs.series), inputs.scattered):
        for source in sources:
            if isinstance(source, ZipMemberSource):
                yield source.archive
            elif isinstance(source, PathSource):
                yield source.path
    yield from inputs.nifti


def _barren(paths: Sequence[Path], files: Sequence[Path]) -> list[Path]:
    """Return inputs that contain none of ``files``; links are resolved if the names alone do not decide."""
    places = _with_parents(files)
    doubtful = [path for path in paths if path not in places]
    if not doubtful:
        return []
    resolved = _with_parents(file.resolve() for file in files)
    return [path for path in doubtful if path.resolve() not in resolved]


def _with_parents(files: Iterable[Path]) -> set[Path]:
    files = set(files)
    folders = {file.parent for file in files}
    return files.union(folders, *(folder.parents for folder in folders))

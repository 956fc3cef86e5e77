"""What the inputs of an offline run hold: items to do, inputs that failed already, and what was never meant for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.offline.errors import NothingFoundError
from dicom_node.offline.items import Item, list_items
from inference.series.files import Inputs, PathSource, Rejected, ZipMemberSource, find_inputs

# A study holds such objects beside its CT and MR images; leaving them out is no failure.
NOT_MEANT_CODES = frozenset(
    {
        "colour-image",
        "derived-map",
        "dicomdir",
        "encapsulated-document",
        "localizer",
        "not-ct-or-mr",
        "not-dicom",
        "parametric-map",
        "pet",
        "presentation-state",
        "radiotherapy-object",
        "raw-data",
        "secondary-capture",
        "segmentation",
        "spectroscopy",
        "structured-report",
    }
)
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a run has to do, and what it can say before it begins."""

    items: tuple[Item, ...]
    failed: tuple[Rejected, ...]
    not_used: tuple[Rejected, ...]


def survey_inputs(paths: Sequence[Path]) -> Survey:
    """Look through the inputs.

    Something that was named on the command line, or calls itself DICOM, and can't be used has failed; a report or a
    scout that lies in a folder beside the images is only not used. An input that yields nothing at all has failed.
    """
    inputs = find_inputs(paths)
    named = {str(path) for path in paths}
    failed = [rejected for rejected in inputs.rejected if _is_failure(rejected, named)]
    not_used = [rejected for rejected in inputs.rejected if not _is_failure(rejected, named)]
    for path in _barren(paths, [*_files(inputs), *(Path(rejected.name) for rejected in failed)]):
        error = NothingFoundError(str(path))
        failed.append(Rejected(str(path), error.code, str(error)))
    return Survey(list_items(inputs), tuple(failed), tuple(not_used))


def _is_failure(rejected: Rejected, named: set[str]) -> bool:
    if rejected.name in named or rejected.code not in NOT_MEANT_CODES:
        return True
    return rejected.code == "not-dicom" and rejected.name.lower().endswith(DICOM_ENDINGS)


def _files(inputs: Inputs) -> Iterable[Path]:
    """Files that items are read from; an archive for each of its members."""
    for series in inputs.series:
        for source in series.sources:
            if isinstance(source, ZipMemberSource):
                yield source.archive
            elif isinstance(source, PathSource):
                yield source.path
    yield from inputs.nifti


def _barren(paths: Sequence[Path], files: Sequence[Path]) -> list[Path]:
    """Paths at and below which none of the files lies; where the names don't say it, links are followed."""
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

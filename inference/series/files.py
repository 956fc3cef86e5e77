"""What the given paths hold: series, NIfTI files, and what is left out, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inference.series.archives import ZipMemberSource, archive_members
from inference.series.errors import UnreadableError, UnsuitableObjectError
from inference.series.formats import FileKind, recognise
from inference.series.instances import InstanceSource, read_damaged_identity, read_header, reading
from inference.series.objects import check_suitable
from inference.series.rejected import Rejected
from inference.series.scattered import Scattered, find_scattered, kind_of_slice
from inference.series.walk import files_under

__all__ = ["Inputs", "InstanceSource", "PathSource", "Rejected", "SeriesFiles", "ZipMemberSource", "find_inputs"]


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
class SeriesFiles:
    """The image instances of one series, in the order in which they were found."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    sources: tuple[InstanceSource, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that was found.

    Attributes
    ----------
    scattered
        Slices that each came as a series of their own; ``rejected`` has one reason for each series that they were.
    """

    series: tuple[SeriesFiles, ...]
    nifti: tuple[Path, ...]
    rejected: tuple[Rejected, ...]
    scattered: tuple[InstanceSource, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenHeader:
    """What is asked of an image's header to put it into its series; ``kind`` is of slices that may have none."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    kind: Scattered | None


def look_at(source: InstanceSource) -> SeenHeader | Rejected:
    """Read the header of an instance; return why it is left out if it is no CT or MR image.

    A damaged image whose series is known stays in it, so that the series is refused by name: without it the
    volume would have a hole, or end too early.
    """
    try:
        try:
            ds = read_header(source)
        except UnreadableError as error:
            ds = read_damaged_identity(source, error)
        with reading(source.name):
            check_suitable(ds, source.name)
            series, study = str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID)
            return SeenHeader(series, study, str(ds.get("Modality") or ""), kind_of_slice(ds))
    except UnsuitableObjectError as error:
        return Rejected(source.name, error.code, str(error))


def look_in_turn(sources: Sequence[InstanceSource]) -> Iterable[SeenHeader | Rejected]:
    """Look at one instance after the other, in this process."""
    return map(look_at, sources)


Look = Callable[[Sequence[InstanceSource]], Iterable[SeenHeader | Rejected]]  # one for each, in their order


def find_inputs(paths: Sequence[Path], look: Look = look_in_turn) -> Inputs:
    """Look through folders (with all below), zip archives and files.

    Files are known by their first bytes; a name matters only where those say nothing. Nothing is unpacked to a path,
    and only headers are read. `files_under` says what is done about links and hidden folders.

    Parameters
    ----------
    look
        Reads the headers, which takes nearly all of the time; other processes may do it.

    Returns
    -------
    Inputs
        Series in order of first appearance; whatever is no CT or MR image and no NIfTI file is in ``rejected``.
    """
    sources: list[InstanceSource] = []
    nifti: list[Path] = []
    rejected: list[Rejected] = []
    handled: set[Path] = set()
    for file in files_under(paths, rejected):
        found = recognise(file)
        if found.path in handled:  # the other file of a pair
            continue
        handled.add(found.path)
        if found.kind is FileKind.NIFTI:
            nifti.append(found.path)
        elif found.kind is FileKind.ZIP:
            sources.extend(archive_members(file, rejected))
        elif found.rejected is not None:
            rejected.append(found.rejected)
        else:
            sources.append(PathSource(file))
    series, scattered = _series_of(zip(sources, look(sources), strict=True), rejected)
    return Inputs(series, tuple(nifti), tuple(rejected), scattered)


def _series_of(
    seen: Iterable[tuple[InstanceSource, SeenHeader | Rejected]], rejected: list[Rejected]
) -> tuple[tuple[SeriesFiles, ...], tuple[InstanceSource, ...]]:
    """Group image instances by Series Instance UID, and find slices without a series; others go to ``rejected``.

    Slices that each came as a series of their own are one reason together.
    """
    found: dict[str, tuple[str, str, list[InstanceSource]]] = {}
    kinds: dict[str, Scattered] = {}
    for source, header in seen:
        if isinstance(header, Rejected):
            rejected.append(header)
            continue
        if header.kind is not None:
            kinds[header.series_instance_uid] = header.kind
        group = found.setdefault(header.series_instance_uid, (header.study_instance_uid, header.modality, []))
        group[2].append(source)
    scattered, reasons = find_scattered(kinds, {uid: len(group) for uid, (*_, group) in found.items()})
    rejected.extend(reasons)
    series = tuple(
        SeriesFiles(uid, study, modality, tuple(group))
        for uid, (study, modality, group) in found.items()
        if uid not in scattered
    )
    return series, tuple(found[uid][2][0] for uid in found if uid in scattered)

"""Compare volumes of the node with those of SimpleITK (GDCM) and dcm2niix: writes ``docs/agreements.md``.

Every voxel of ours is compared with the other program's volume at the same patient position. The exit status is 1 if a
difference has no known reason. Needs the shared data and dcm2niix; no images or patient names are shown.

    python -m benchmarks.agreements ../shared/data/dicom
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.agreement import TILT_CORRECTED, Agreement, Reason, distances_mm, frames_of, nearest, reason_for
from benchmarks.other_readers import OtherVolume, read_with_dcm2niix, read_with_itk, versions
from inference.errors import SeriesError
from inference.series.assemble import assemble_volumes
from inference.series.errors import MultipleTimePointsError
from inference.series.files import find_inputs
from inference.series.stack_choice import StackChoice
from inference.series.volume import SourceVolume

PAGE = Path(__file__).resolve().parents[1] / "docs" / "agreements.md"
READERS: Mapping[str, Callable[[Path], tuple[OtherVolume, ...]]] = {
    "SimpleITK": read_with_itk,
    "dcm2niix": read_with_dcm2niix,
}
UNEXPLAINED = "**unexplained**"
EVEN = 0.02  # of the mean distance between slices, within which the distances are shown as one number

INTRODUCTION = """# Agreements with other readers

Written by `make agreements`. Every real series of the test data is read by the node (all stacks, or those that it runs
by default where there are more than 16), by SimpleITK's series reader, which is GDCM's, and by dcm2niix; then every
voxel of ours is compared with the most similar volume of the others *at the same patient position*.

- **volume**: rows x columns x slices as the frames of the series have them, spacing in mm in that order, the direction
  in which slices, rows and columns count up (L left, R right, P back, A front, H head, F feet), the centre of the first
  voxel in mm (DICOM's LPS).
- **same**: every frame is at the position of a plane of the other, to a fiftieth of a voxel, and all values are equal.
- **same, rounded**: all values are equal, positions to a tenth of a voxel: positions in the headers are rounded, and
  the other uses even steps from the first slice.
- Otherwise the reason, how far the farthest corner of a frame lies from the other's voxel there, how many frames lie
  outside the other's grid, and how many voxels have another value there. A tilted stack is written twice by
  dcm2niix: without its tilt, and *corrected*, which interpolates.
- A series that the node refuses has its code ([conformance.md](conformance.md) says what it means), and how many
  volumes the others read from the group anyway.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; equal lines of a group are counted."""

    ours: str
    others: tuple[str, ...]


def rows_of(folder: Path) -> Counter[Row]:
    """Return the lines of one group of series, with their counts."""
    others = {name: read(folder) for name, read in READERS.items()}
    rows: Counter[Row] = Counter()
    inputs = find_inputs([folder])
    refused = Counter(rejected.code for rejected in inputs.rejected)
    for series in inputs.series:
        try:
            try:
                volumes = assemble_volumes(series.sources, stacks=(StackChoice.ALL,))
            except MultipleTimePointsError:
                volumes = assemble_volumes(series.sources)
        except SeriesError as error:
            refused[error.code] += 1
            continue
        for source in volumes:
            rows[Row(describe(source), tuple(verdict(source, others[name]) for name in READERS))] += 1
    if refused:
        words = ", ".join(f"`{code}`" + (f" x {n}" if n > 1 else "") for code, n in sorted(refused.items()))
        made = ("-",) * len(READERS) if rows else tuple(_how_many(others[name]) for name in READERS)
        rows[Row(f"refused: {words}", made)] = 1
    return rows


def describe(source: SourceVolume) -> str:
    """Return the geometry of a volume's frames in words."""
    n_frames, n_rows, n_columns = frames_of(source).shape
    assert source.frames is not None
    apart_mm = distances_mm(source)
    is_even = np.ptp(apart_mm) <= EVEN * apart_mm.mean()
    slices = f"{apart_mm.mean():.3g}" if is_even else f"({apart_mm.min():.3g} to {apart_mm.max():.3g})"
    spacing = "x".join([*(f"{value:.3g}" for value in source.volume.spacing[1:]), slices])
    directions = "".join(str(one.value) for one in source.volume.get_closest_patient_orientation())
    first = ", ".join(f"{value:.1f}" for value in np.round(source.frames.positions_mm[0], 1) + 0.0)
    tilt = [remark.text.split(" degrees")[0].split()[-1] for remark in source.remarks if remark.code == "tilted"]
    leans = f", tilted by {tilt[0]} degrees" if tilt else ""
    return f"{n_rows}x{n_columns}x{n_frames}, {spacing} mm, {directions}, ({first}){leans}"


def verdict(source: SourceVolume, others: Sequence[OtherVolume]) -> str:
    """Return the agreement with one reader in words; with both volumes if it wrote a tilted stack twice."""
    corrected = [other for other in others if TILT_CORRECTED in other.name]
    if corrected and any(remark.code == "tilted" for remark in source.remarks):
        plain = [other for other in others if TILT_CORRECTED not in other.name]
        return f"{_verdict(source, plain)}; corrected: {_verdict(source, corrected)}"
    return _verdict(source, others)


def _verdict(source: SourceVolume, others: Sequence[OtherVolume]) -> str:
    """Return the agreement with the most similar volume in words, or the difference and its reason."""
    agreement = nearest(source, others)
    if agreement is None:
        return Reason.NOTHING_READ.value
    if agreement.is_same_values and agreement.is_same_place:
        return "same"
    if agreement.is_same_values and agreement.is_rounded_place:
        return f"same, rounded ({agreement.apart_mm:.2f} mm)"
    reason = reason_for(source, agreement)
    return f"{reason.value if reason else UNEXPLAINED} ({_numbers(agreement)})"


def _how_many(others: Sequence[OtherVolume]) -> str:
    return f"{len(others)} volume{'s' if len(others) != 1 else ''}"


def _numbers(agreement: Agreement) -> str:
    parts = [f"{agreement.apart_mm:.2f} mm"]
    if agreement.n_outside:
        parts.append(f"{agreement.n_outside} frame{'s' if agreement.n_outside > 1 else ''} outside")
    if agreement.differing:
        parts.append(f"{100 * agreement.differing:.0f} % other values")
    return ", ".join(parts)


def lines_of(group: str, rows: Counter[Row]) -> Iterator[str]:
    """Yield the table's lines of one group."""
    for row, number in rows.items():
        times = f"{number} x " if number > 1 else ""
        yield f"| {group} | {times}{row.ours} | {' | '.join(row.others)} |"
        group = ""


def unpacked(archives: Sequence[Path], place: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and folder of one unpacked group after the other; each is deleted before the next."""
    for archive in archives:
        group = archive.name.removesuffix(".tar.xz")
        with tempfile.TemporaryDirectory(dir=place) as folder, tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            yield group, Path(folder) / group


def main(arguments: list[str] | None = None) -> int:
    """Compare all groups and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder of NAME.tar.xz")
    parser.add_argument("--only", nargs="+", default=[], help="groups; the page is then printed, not written")
    options = parser.parse_args(arguments)
    archives = sorted(options.data.glob("*.tar.xz"))
    if options.only:
        archives = [path for path in archives if path.name.removesuffix(".tar.xz") in options.only]
    if not archives:
        parser.error(f"{options.data} has no such .tar.xz")
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for group, folder in unpacked(archives, Path(place)):
            lines += lines_of(group, rows_of(folder))
            print(group, file=sys.stderr)
    head = f"| group | volume | {' | '.join(READERS)} |\n|{' --- |' * (2 + len(READERS))}"
    page = "\n".join((INTRODUCTION, f"Compared with {versions()}.\n", head, *lines)) + "\n"
    if options.only:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")
    return 1 if UNEXPLAINED in page else 0


if __name__ == "__main__":
    sys.exit(main())

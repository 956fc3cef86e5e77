"""What the node makes of real series, beside SimpleITK (GDCM) and dcm2niix: writes ``docs/agreements.md``.

Every voxel of ours is looked up in the other program's volume by its place in the patient. Ends with 1 where a
difference has no reason. Needs the shared data and dcm2niix; pictures and names of patients are not shown.

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
EVEN = 0.02  # of the mean distance between slices, by which the steps may differ to be told as one

INTRODUCTION = """# Agreements with other readers

Written by `make agreements`. Every real series of the test data is read by the node (all stacks, or those that it runs
by default where there are more than 16), by SimpleITK's series reader, which is GDCM's, and by dcm2niix; then every
voxel of ours is looked up in the nearest volume of the others *by its place in the patient*.

- **volume**: rows x columns x slices as the frames of the series have them, spacing in mm in that order, the direction
  in which slices, rows and columns count up (L left, R right, P back, A front, H head, F feet), the centre of the first
  voxel in mm (DICOM's LPS).
- **same**: every frame lies on a plane of the other's, to a fiftieth of a voxel, and every value is the same.
- **same, rounded**: the same values, and places to a tenth of a voxel: positions in the headers are rounded, the other
  counts even steps from the first slice.
- Otherwise the reason, how far the farthest corner of a frame lies from the other's voxel there, how many frames lie
  outside the other's grid, and how many voxels have another value there. A stack that leans is written twice by
  dcm2niix: without its tilt, and *corrected*, which interpolates.
- A series that the node refuses has its code ([conformance.md](conformance.md) says what it means), and how many
  volumes the others made of the group all the same.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; equal ones of a group are counted."""

    ours: str
    others: tuple[str, ...]


def rows_of(folder: Path) -> Counter[Row]:
    """Lines of one group of series."""
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
    """Geometry of the frames of a volume, in words."""
    n_frames, n_rows, n_columns = frames_of(source).shape
    assert source.frames is not None
    apart_mm = distances_mm(source)
    is_even = np.ptp(apart_mm) <= EVEN * apart_mm.mean()
    slices = f"{apart_mm.mean():.3g}" if is_even else f"({apart_mm.min():.3g} to {apart_mm.max():.3g})"
    spacing = "x".join([*(f"{value:.3g}" for value in source.volume.spacing[1:]), slices])
    directions = "".join(str(one.value) for one in source.volume.get_closest_patient_orientation())
    first = ", ".join(f"{value:.1f}" for value in np.round(source.frames.positions_mm[0], 1) + 0.0)
    tilt = [remark.text.split(" degrees")[0].split()[-1] for remark in source.remarks if remark.code == "tilted"]
    leans = f", leaning by {tilt[0]} degrees" if tilt else ""
    return f"{n_rows}x{n_columns}x{n_frames}, {spacing} mm, {directions}, ({first}){leans}"


def verdict(source: SourceVolume, others: Sequence[OtherVolume]) -> str:
    """Agreement with one reader; where it wrote a leaning stack twice, with both."""
    corrected = [other for other in others if TILT_CORRECTED in other.name]
    if corrected and any(remark.code == "tilted" for remark in source.remarks):
        plain = [other for other in others if TILT_CORRECTED not in other.name]
        return f"{_verdict(source, plain)}; corrected: {_verdict(source, corrected)}"
    return _verdict(source, others)


def _verdict(source: SourceVolume, others: Sequence[OtherVolume]) -> str:
    """Agreement with the nearest volume, or the difference and its reason."""
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
    """The table's lines of one group."""
    for row, number in rows.items():
        times = f"{number} x " if number > 1 else ""
        yield f"| {group} | {times}{row.ours} | {' | '.join(row.others)} |"
        group = ""


def unpacked(archives: Sequence[Path], place: Path) -> Iterator[tuple[str, Path]]:
    """Groups one by one, each gone before the next."""
    for archive in archives:
        group = archive.name.removesuffix(".tar.xz")
        with tempfile.TemporaryDirectory(dir=place) as folder, tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            yield group, Path(folder) / group


def main(arguments: list[str] | None = None) -> int:
    """Read everything, write the page."""
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

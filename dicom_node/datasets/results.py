"""Find the results of ``segment`` in its folders, and the images that they were made from.

A result names the SHA-256 of its input's contents, not its place, so an image counts as found only if its contents are
the same. Where to look: the inputs that ``summary.json`` names, and what the user adds.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.datasets.errors import NothingSegmentedError
from dicom_node.offline.items import Item
from dicom_node.offline.names import REPORT, SUMMARY
from dicom_node.offline.survey import survey_inputs

_NUMBER = re.compile(r"(-stack\d+)?(-\d+)?$")


@dataclass(frozen=True, slots=True)
class SegmentedVolume:
    """One result of ``segment``: its folder, and what its report says."""

    folder: Path
    report: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def input_sha256(self) -> str:
        """Digest of the contents of the input; empty if the report names none."""
        return str(self.report.get("input_sha256") or "")

    @property
    def stack_number(self) -> int:
        """Which volume of the input it is, from 1."""
        number = self.report.get("stack_number")
        return number if isinstance(number, int) else 1


@dataclass(frozen=True, slots=True)
class Task:
    """Results of one input, to be read together, and the inputs that may be it."""

    results: tuple[SegmentedVolume, ...]
    candidates: tuple[Item, ...]


def find_results(sources: Sequence[Path]) -> tuple[SegmentedVolume, ...]:
    """Return the results in the folders, in the order of folders and names.

    Raises
    ------
    NothingSegmentedError
        A folder has none.
    """
    found: dict[Path, SegmentedVolume] = {}
    for source in sources:
        paths = [
            path for path in sorted(source.glob(f"*/{REPORT}")) if not path.parent.name.startswith(".")
        ]  # killed runs
        reports = [(path, report) for path in paths if (report := _read_json(path))]
        if not reports:
            raise NothingSegmentedError(str(source))
        found |= {path.parent.resolve(): SegmentedVolume(path.parent, report) for path, report in reports}
    return tuple(found.values())


def find_tasks(results: Sequence[SegmentedVolume], sources: Sequence[Path], images: Sequence[Path]) -> tuple[Task, ...]:
    """Group the results by their input, and find the inputs that have its name."""
    places = [path for path in dict.fromkeys((*images, *_inputs_of(sources))) if path.exists()]
    items: dict[str, list[Item]] = defaultdict(list)
    for item in survey_inputs(places).items if places else ():
        items[_base(item.name)].append(item)
    groups: dict[tuple[str, str], list[SegmentedVolume]] = defaultdict(list)
    for result in results:
        groups[(_base(result.name), result.input_sha256)].append(result)
    tasks = []
    for (base, _), group in groups.items():
        same_name_first = sorted(items.get(base, ()), key=lambda item, name=group[0].name: item.name != name)
        tasks.append(Task(tuple(group), tuple(same_name_first)))
    return tuple(tasks)


def _inputs_of(sources: Iterable[Path]) -> Iterable[Path]:
    """Yield the inputs that the summaries name."""
    for source in sources:
        inputs = _read_json(source / SUMMARY).get("inputs")
        yield from map(Path, inputs if isinstance(inputs, list) else ())


def _base(name: str) -> str:
    """Return the name of a result or item without the numbers that make names unique."""
    return _NUMBER.sub("", name).casefold()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""What became of each file of an upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicom_node.http_intake.intake import Intake
from dicom_node.http_intake.outcomes import Outcome
from dicom_node.http_intake.reasons import Reason

MAX_NAME_CHARACTERS: Final = 200
_TRY_AGAIN: Final = frozenset({Reason.OUT_OF_RESOURCES, Reason.PROCESSING_FAILURE})


class Result(StrEnum):
    """What became of a file."""

    STORED = "stored"
    KNOWN = "known"  # the same bytes were here before
    SET_ASIDE = "set_aside"  # another content has its UID; both are kept, the first is processed
    LEFT_OUT = "left_out"  # nothing that anybody wants to be stored
    REFUSED = "refused"  # it will never be stored as it is
    FAILED = "failed"  # it may be stored when it is uploaded again


KEPT: Final = frozenset({Result.STORED, Result.KNOWN, Result.SET_ASIDE})


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a file; ``reason`` is empty if there is nothing to say, UIDs are if it is not stored."""

    name: str
    result: Result
    reason: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""


class Ledger:
    """Numbers the files of one request, and knows in the end what became of each."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._names: list[str] = []
        self._settled: dict[int, FileResult] = {}

    def begin(self, name: str) -> int:
        """Return the number of one more file, from 1."""
        self._names.append(shown_name(name))
        return len(self._names)

    def leave_out(self, name: str, reason: str) -> None:
        """Note a file that nobody wants to be stored."""
        self._settle(name, Result.LEFT_OUT, reason)

    def refuse(self, name: str, reason: str) -> None:
        """Note a file that cannot be stored."""
        self._settle(name, Result.REFUSED, reason)

    def _settle(self, name: str, result: Result, reason: str) -> None:
        number = self.begin(name)
        self._settled[number] = FileResult(self._names[number - 1], result, reason)

    def results(self) -> tuple[FileResult, ...]:
        """Wait for what is on its way, and return what became of each file, in the order in which they came."""
        for outcome in self.intake.outcomes():
            self._settled[outcome.part_number] = _result(self._names[outcome.part_number - 1], outcome)
        return tuple(self._settled[number] for number in sorted(self._settled))


def count_results(files: tuple[FileResult, ...]) -> Mapping[str, int]:
    """Return how many files met each result."""
    found = Counter(one.result.value for one in files)
    return {result.value: found.get(result.value, 0) for result in Result}


def shown_name(name: str) -> str:
    """Return a path as it is shown: bounded, and without characters that change how others are shown."""
    plain = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name)
    return plain if len(plain) <= MAX_NAME_CHARACTERS else "…" + plain[1 - MAX_NAME_CHARACTERS :]


def _result(name: str, outcome: Outcome) -> FileResult:
    if outcome.uids is None:
        result = Result.FAILED if outcome.reason in _TRY_AGAIN else Result.REFUSED
        return FileResult(name, result, outcome.words, sop_instance_uid=outcome.sop_instance_uid)
    if outcome.reason is Reason.COERCION:
        result = Result.SET_ASIDE
    else:
        result = Result.KNOWN if outcome.was_here else Result.STORED
    uids = outcome.uids
    return FileResult(
        name,
        result,
        outcome.words,
        uids.get("StudyInstanceUID", ""),
        uids.get("SeriesInstanceUID", ""),
        outcome.sop_instance_uid,
    )

"""Rows that match a query, read in small batches while they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

BATCH_CHARACTERS: Final = 2**19
BATCH_ROWS: Final = 500

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """A row that matches a query, not yet read."""

    key: str | int
    n_characters: int  # of the DICOM JSON that is returned for it


class Matches:
    """Rows that match a query, read in small batches while they are iterated, as DICOM JSON objects.

    The query decides which rows match; a row that is deleted before its batch is read is left out.
    ``has_more`` says whether rows were left out because of the limit or the size of the answer.
    """

    def __init__(
        self, read: Callable[[Sequence[Match]], Iterable[JsonObject]], matches: Sequence[Match], *, has_more: bool
    ) -> None:
        self._read = read
        self._matches = matches
        self.has_more = has_more

    def __len__(self) -> int:
        return len(self._matches)

    def __iter__(self) -> Iterator[JsonObject]:
        batch: list[Match] = []
        n_characters = 0
        for match in self._matches:
            batch.append(match)
            n_characters += match.n_characters
            if n_characters >= BATCH_CHARACTERS or len(batch) == BATCH_ROWS:
                yield from self._read(batch)
                batch, n_characters = [], 0
        if batch:
            yield from self._read(batch)

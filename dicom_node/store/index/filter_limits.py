"""Limits on the values of filters, within which the index can answer every query; of QIDO-RS and C-FIND alike."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Attributes that can be searched have at most 64 characters (PS3.5 6.2), person names three groups of 64.
MAX_VALUE_CHARACTERS: Final = 256
MAX_LISTED: Final = 256
MAX_WILDCARDS: Final = 16

_SEPARATOR: Final = re.compile(r"[,\\]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class FilterProblem(NamedTuple):
    """Why a value is not taken; ``found`` may quote it."""

    found: str
    expected: str


def find_problem(value: str, *, max_listed: int = MAX_LISTED) -> FilterProblem | None:
    """Return why a filter with this value is not answered, or None if it is."""
    if _CONTROL.search(value):
        return FilterProblem(value, "text without control characters")
    n_listed = 1 + len(_SEPARATOR.findall(value))
    if n_listed > max_listed:
        return FilterProblem(f"a list of {n_listed}", f"at most {max_listed} values")
    if len(value) > MAX_VALUE_CHARACTERS * n_listed:
        return FilterProblem(f"{len(value)} characters", f"at most {MAX_VALUE_CHARACTERS} for a value")
    if value.count("*") > MAX_WILDCARDS:
        return FilterProblem(value, f"at most {MAX_WILDCARDS} asterisks")
    return None

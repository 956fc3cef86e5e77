"""Whether objects of one study, which all have one Patient ID, may still be of different people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class Person:
    """Birth date and words of the name in an object; empty if it has none. Never shown."""

    birth: str = field(repr=False)
    names: frozenset[str] = field(repr=False)


def person_of(source: Dataset) -> Person:
    """Return who an object is of, apart from the Patient ID."""
    birth = re.sub(r"\D", "", str(source.get("PatientBirthDate") or ""))
    return Person(birth, frozenset(re.findall(r"[^\W_]+", str(source.get("PatientName") or "").casefold())))


def are_several(persons: Iterable[Person]) -> bool:
    """Return whether two birth dates differ, or two names have no word in common: not just another way to write one."""
    known = set(persons)
    names = [one.names for one in known if one.names]
    births = {one.birth for one in known if one.birth}
    return len(births) > 1 or any(one.isdisjoint(other) for one in names for other in names)

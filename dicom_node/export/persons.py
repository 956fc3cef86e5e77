"""Whether objects of one study, which all have one Patient ID, may still be of different people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

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


def differing_persons(persons: Iterable[Person]) -> tuple[str, ...]:
    """Return the attributes in which persons differ: birth dates, or names without a common word.

    Names with a common word are taken for two ways to write one.
    """
    known = set(persons)
    names = [one.names for one in known if one.names]
    births = {one.birth for one in known if one.birth}
    differing = ["Patient's Birth Date"] if len(births) > 1 else []
    if any(one.isdisjoint(other) for one in names for other in names):
        differing.append("Patient's Name")
    return tuple(differing)


def told_of_several(what: str, differing: Iterable[str]) -> str:
    """Return why objects that should be of one patient are refused, without a value."""
    return (
        f"{what} differ in {', '.join(differing)}, so they may be of more than one patient; "
        "ask the sender which one is right"
    )


ID_OR_ISSUER: Final = "Patient ID or its issuer"
"""What differs where two pseudonyms were made: they do not say which of both."""

"""PS3.15 Table E.1-1 as data: the action for each attribute under the basic profile and its options.

The file next to this module merges the 2026c edition of the basic column with the option columns of 2025a; both agree
in every attribute that they share. Its sources are innolitics/dicom-standard (MIT) and
KitwareMedical/dicom-anonymizer (BSD-3-Clause).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

EDITION: Final = "PS3.15 2026c, options of 2025a"
_FILE: Final = "ps3.15-table-e.1-1.csv"


class Option(StrEnum):
    """Options of PS3.15 E.3 that this engine can carry out, by their column in the table."""

    MODIFIED_DATES = "rtnLongModifDatesOpt"
    PATIENT_CHARACTERISTICS = "rtnPatCharsOpt"
    DEVICE_IDENTITY = "rtnDevIdOpt"
    INSTITUTION_IDENTITY = "rtnInstIdOpt"
    CLEAN_STRUCTURED_CONTENT = "cleanStructContOpt"
    CLEAN_DESCRIPTORS = "cleanDescOpt"


OPTION_CODES: Final[dict[Option, tuple[str, str]]] = {
    Option.MODIFIED_DATES: ("113107", "Retain Longitudinal Temporal Information With Modified Dates Option"),
    Option.PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Option.DEVICE_IDENTITY: ("113109", "Retain Device Identity Option"),
    Option.INSTITUTION_IDENTITY: ("113112", "Retain Institution Identity Option"),
    Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
    Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
}
"""Codes of CID 7050 (scheme DCM) for De-identification Method Code Sequence."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """Actions for one attribute: that of the basic profile, and those of options that change it."""

    basic: str
    options: tuple[tuple[str, str], ...]

    def action(self, chosen: Iterable[Option]) -> str:
        """Return the code of the action, such as ``X/Z``; ``C`` (clean) or ``K`` (keep) if a chosen option says so."""
        by_column = dict(self.options)
        for option in chosen:
            if option in by_column:
                return by_column[option]
        return self.basic


@cache
def read_table() -> dict[int, TableRow]:
    """Return the rows by tag. Private attributes and the repeating groups 50xx and 60xx are left to the engine."""
    text = (files("dicom_node.export") / _FILE).read_text(encoding="ascii")
    table = {}
    for row in csv.DictReader(text.splitlines()):
        try:
            tag = int(row["tag"], 16)
        except ValueError:
            continue
        options = tuple((option.value, row[option.value]) for option in Option if row[option.value])
        table[tag] = TableRow(row["basic_2026c"] or "X", options)
    return table

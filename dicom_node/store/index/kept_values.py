"""Match attributes that the index keeps only as DICOM JSON, without a column of their own.

A study or series is looked at in a microsecond. Instances are far more, so among them a UID must have narrowed the
query before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from dicom_node.store.index.attributes import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUESTED, Level
from dicom_node.store.index.like import ESCAPE, like_pattern
from dicom_node.store.schema import instances, series, studies

Condition = sa.ColumnElement[bool]
N_VALUES: Final = 4  # of an attribute with several, and of items: that many of the first are compared
_TABLES: Final = {"study": studies, "series": series, "instance": instances}
_RANGES: Final = frozenset({"DA", "TM"})
_TEXTS: Final = frozenset({"CS", "LO", "SH", "UI"})
_NUMBERS: Final = frozenset({"IS", "US"})
_SEVERAL: Final = frozenset({"ImageType"})
# Answers have our own count; an offset says how others are matched.
_CLAIMS: Final = frozenset({"NumberOfSeriesRelatedInstances", "TimezoneOffsetFromUTC"})


class _Extract(sa.sql.functions.FunctionElement[str]):
    """The text of one value in a column of DICOM JSON."""

    inherit_cache = True
    type = sa.Text()

    def __init__(self, column: sa.Column[str], path: Sequence[str | int]) -> None:
        as_sqlite = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)}" for step in path)
        as_postgresql = "{" + ",".join(map(str, path)) + "}"
        super().__init__(column, sa.literal(as_sqlite), sa.literal(as_postgresql))


@compiles(_Extract, "sqlite")
def _in_sqlite(element: _Extract, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, path, _ = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(json_extract({column}, {path}) AS TEXT)"


@compiles(_Extract)
def _in_postgresql(element: _Extract, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, _, path = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(CAST({column} AS jsonb) #>> CAST({path} AS text[]))"


def extracted_text(column: sa.Column[str], path: Sequence[str | int]) -> sa.ColumnElement[str]:
    """Return an expression for the text of one value in a column of DICOM JSON; NULL if there is none."""
    return _Extract(column, path)


def kept_conditions(level: Level, *, except_for: frozenset[str]) -> dict[str, Callable[[str], Condition]]:
    """Return keyword → condition of all attributes that are kept at a level and have no column."""
    found: dict[str, Callable[[str], Condition]] = {}
    for tag, (keyword, vr, its_level) in ATTRIBUTES.items():
        if its_level != level or keyword in except_for | _CLAIMS or vr not in _RANGES | _TEXTS | _NUMBERS:
            continue
        n_values = N_VALUES if keyword in _SEVERAL else 1
        paths = [(f"{tag:08X}", "Value", index) for index in range(n_values)]
        found[keyword] = _matcher(_TABLES[level].c.attributes, vr, paths)
    if level == "series":
        for tag, (keyword, vr) in REQUESTED.items():
            items = [(f"{REQUEST_ATTRIBUTES:08X}", "Value", n, f"{tag:08X}", "Value", 0) for n in range(N_VALUES)]
            found[f"RequestAttributesSequence.{keyword}"] = _matcher(series.c.attributes, vr, items)
    return found


def _matcher(column: sa.Column[str], vr: str, paths: Sequence[Sequence[str | int]]) -> Callable[[str], Condition]:
    values = [_Extract(column, path) for path in paths]

    def match(value: str) -> Condition:
        return sa.or_(*(_matches(found, value, vr) for found in values))

    return match


def _matches(found: sa.ColumnElement[str], value: str, vr: str) -> Condition:
    if vr in _RANGES and "-" in value:
        first, _, last = value.partition("-")
        known = sa.and_(found.is_not(None), found != "")
        begin = found >= first if first else sa.true()
        return sa.and_(known, begin, found <= last + "~" if last else sa.true())
    if vr in _TEXTS and ("*" in value or "?" in value):
        return found.like(like_pattern(value), escape=ESCAPE)
    return found == value

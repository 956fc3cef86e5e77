"""Write tables and JSON to standard output."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum

import typer

from dicom_node.json_values import plain


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, when_empty: str) -> None:
    """Write a table with columns as wide as needed; a pipe gets the same text as a terminal."""
    if not rows:
        typer.echo(when_empty)
        return
    cells = [[shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write RFC 4180 CSV with the columns' names, UTC times and empty cells for None."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            "" if value is None else value if isinstance(value, str | bool | int) else plain(value) for value in row
        )
    typer.echo(text.getvalue(), nl=False)


def write_fields(fields: Mapping[str, object]) -> None:
    """Write one ``name: value`` per line, with the values aligned."""
    width = max(map(len, fields)) + 1
    for name, value in fields.items():
        typer.echo(f"{name + ':':<{width}} {shown(value)}")


def write_json(value: object) -> None:
    """Write indented JSON, with dataclasses, dates and enums in their plain forms."""
    typer.echo(json.dumps(value, default=plain, indent=2, ensure_ascii=False))


def shown(value: object) -> str:
    """Return a value for people: local times to the second, a dash for nothing, control characters escaped."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = value.value if isinstance(value, Enum) else str(value)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))

"""Statements that every arriving instance needs: compiled once, then executed directly by the database driver.

SQLAlchemy Core writes them and owns the tables; only execution bypasses it, because it costs 50 µs a statement where
SQLite takes 3 µs. They run in the caller's transaction, on the connection of the caller's ``sa.Connection``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler


class DriverStatement:
    """A Core statement with named parameters, executed by the driver.

    Rows are returned as the driver returns them: select only columns that no SQLAlchemy type has to convert.

    Parameters
    ----------
    columns
        For an insert without values: the columns that it fills.
    """

    def __init__(
        self, statement: sa.Select[Any] | sa.Insert | sa.Update | sa.Delete, columns: Sequence[str] | None = None
    ) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[tuple[str, str], _Compiled] = {}  # by dialect and driver, which may differ in parameters

    def run(self, connection: sa.Connection, parameters: Mapping[str, object]) -> None:
        """Execute it."""
        compiled = self._for(connection.dialect)
        connection.connection.cursor().execute(compiled.text, compiled.bind(parameters))

    def run_many(self, connection: sa.Connection, rows: Iterable[Mapping[str, object]]) -> None:
        """Execute the statement once for each of ``rows``."""
        compiled = self._for(connection.dialect)
        connection.connection.cursor().executemany(compiled.text, [compiled.bind(row) for row in rows])  # type: ignore[arg-type]  # all alike

    def first_row(self, connection: sa.Connection, parameters: Mapping[str, object]) -> tuple[Any, ...] | None:
        """Execute the statement and return the first row, or None."""
        compiled = self._for(connection.dialect)
        cursor = connection.connection.cursor()
        cursor.execute(compiled.text, compiled.bind(parameters))
        return cast("tuple[Any, ...] | None", cursor.fetchone())

    def _for(self, dialect: sa.Dialect) -> _Compiled:
        key = dialect.name, dialect.driver
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, self._columns, dialect)
        return compiled


class _Compiled:
    """A statement in the dialect of one database, and the parameter style of its driver."""

    def __init__(self, statement: sa.ClauseElement, columns: Sequence[str] | None, dialect: sa.Dialect) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=columns))
        self.text = compiled.string
        self._positions = compiled.positiontup  # None where the driver takes parameters by name
        self._constants = dict(compiled.params)
        self._converters: dict[str, Callable[[Any], Any]] = {}
        for parameter, name in compiled.bind_names.items():
            converter = parameter.type.dialect_impl(dialect).bind_processor(dialect)
            if converter is not None:
                self._converters[name] = converter

    def bind(self, parameters: Mapping[str, object]) -> Sequence[Any] | Mapping[str, Any]:
        """Return converted parameter values in the form that the driver takes: a sequence or a mapping."""
        values = {**self._constants, **parameters}
        for name, convert in self._converters.items():
            values[name] = convert(values[name])
        return values if self._positions is None else [values[name] for name in self._positions]

"""Rows of a table, a view or a query of a database, by SQLAlchemy.

Rows are in order of a key. On opening, every 1024th key is read, and no more: rows are then found from the nearest such
key before them, by an index where the key has one, instead of being counted from the first row each time.

Values are not converted by the declared types of columns: a key sent back must equal the one received.
"""

import datetime
import decimal
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError
from runner.data.rows import Column, Rows, RowType, RowTypes
from runner.sources.base import DataSpec
from runner.sources.tables.connection import Connection, hide_password
from runner.sources.tables.value_cells import type_of_value_cells, values_as_cells
from runner.sources.tables.values import type_of_values, values_as_column

_STEP = 1024  # the key of every 1024th row is kept
_DECIDING_ROWS = 1000  # the types of columns are those of the values in so many first rows
_DIGESTED_ROWS = 100  # at the beginning, and as many at the end
_KEYS = (int, str, bytes, decimal.Decimal, datetime.date, uuid.UUID)  # no floats: they may change on the way back
_QUERY = re.compile(r"\s*\(*\s*(select|with|values)\b[\s(]", re.IGNORECASE)


@dataclass(frozen=True)
class _Known:
    """Properties of the rows, found on opening.

    Attributes:
        num_rows: number of rows.
        keys: keys of every 1024th row.
        types: types of the columns, by name.
        row_bytes: average size of a row, in bytes.
    """

    num_rows: int
    keys: list[tuple[Any, ...]]
    types: dict[str, RowType]
    row_bytes: int


class DatabaseSource:
    """A table or a query of SQLite, PostgreSQL, MySQL, and any other database of SQLAlchemy.

    Rows are in order of the primary key; without one, as in views and queries, in order of the first column. Integers
    are int64, other numbers float64; booleans are bool, and strings text.

    Args:
        spec: its path is a URL in SQLAlchemy's form, its inner name a table, a view, or a SELECT; without columns, all
            but the key are read.

    Raises:
        UsageError: the driver of the database is missing; no table is given.
        InputError: the database cannot be reached; no such table or column; the key is not unique, or contains a null;
            a column is neither of numbers nor of text.
    """

    def __init__(self, spec: DataSpec) -> None:
        inner, shown = spec.inner, spec.inner if len(spec.inner) < 80 else spec.inner[:80] + "..."
        named = DataSpec(f"{hide_password(spec.path)}::{shown}", "", spec.columns, spec.keep)
        self._what = named.what
        self._connection = Connection(spec.path, inner, self._what)
        import sqlalchemy as sa

        self._sa = sa
        if _QUERY.match(inner):
            self._rows, names, key, is_primary = self._open_query(inner.rstrip("; \n\t"))
        else:
            self._rows, names, key, is_primary = self._open_table(inner)
        self._key = [self._rows.c[name] for name in key]
        self._names = named.choose(names, [name for name in names if name not in key] or names)
        self._is_primary = is_primary
        self._known: _Known | None = None
        self._null_is_nan = spec.options.null_is_nan
        self._cells = spec.options.cells

    @property
    def num_rows(self) -> int:
        return self._look().num_rows

    @property
    def row_type(self) -> RowTypes:
        types = self._look().types
        return types[self._names[0]] if len(self._names) == 1 else types

    @property
    def row_bytes(self) -> int:
        return self._look().row_bytes

    def scan(self, part: int, parts: int) -> "_Known | None":
        """Return the properties of the rows, found by the first part for all: finding them is work for the database."""
        return None if part else self._look_through()

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scan of the first part."""
        self._known = scans[0]

    def read(self, start: int, stop: int) -> Rows:
        records = self._fetch(start, stop)
        columns: dict[str, Column] = {}
        for place, name in enumerate(self._names, len(self._key)):

            def name_row(index: int, name: str = name) -> str:
                key = ", ".join(map(str, records[index][: len(self._key)]))
                return f"{self._what}: row {start + index} (key {key}) of column {name!r}"

            values, row_type = [row[place] for row in records], self._look().types[name]
            if name in self._cells:
                columns[name] = values_as_cells(values, row_type, name_row)
            else:
                columns[name] = values_as_column(values, row_type, name_row, self._null_is_nan)
        return columns[self._names[0]] if len(self._names) == 1 else columns

    def digest(self) -> str:
        size = min(self.num_rows, _DIGESTED_ROWS)
        ends = [self._fetch(0, size), self._fetch(self.num_rows - size, self.num_rows)]
        types = {name: str(column) for name, column in self._look().types.items()}
        return checksum_of_text(f"{self.num_rows} {types} {self._look().keys!r} {ends!r}")

    def stamp(self) -> str:
        sa = self._sa
        ends = self._connection.fetch(sa.select(sa.func.count()).select_from(self._rows))
        for backwards in (False, True):  # not by min and max, which PostgreSQL lacks for some types
            order = [column.desc() if backwards else column for column in self._key]
            ends += self._connection.fetch(sa.select(*self._key).order_by(*order).limit(1))
        return f"{checksum_of_text(repr(ends))} {self._connection.stamp()}"

    def _look(self) -> "_Known":
        if self._known is None:
            self.use([self.scan(0, 1)])
        assert self._known is not None
        return self._known

    def _look_through(self) -> "_Known":
        num_rows = self._count([column.name for column in self._key], self._is_primary)
        keys = self._keep_keys(num_rows)
        records = self._fetch(0, min(num_rows, _DECIDING_ROWS), keys)
        first = len(self._key)
        types = {}
        for place, name in enumerate(self._names, first):
            values, what = [row[place] for row in records], f"{self._what}: column {name!r}"
            is_cell = name in self._cells
            types[name] = (
                type_of_value_cells(values, what) if is_cell else type_of_values(values, what, self._null_is_nan)
            )
        sizes = sum(len(value) if isinstance(value, str) else 8 for row in records for value in row[first:])
        return _Known(num_rows, keys, types, sizes // max(1, len(records)))

    def _open_table(self, inner: str) -> tuple[Any, list[str], list[str], bool]:
        """Return the table or view, its columns, the columns of its key, and whether that is a primary key."""
        sa = self._sa
        schema = None
        table = inner
        with self._connection.errors_for_users():
            inspector = sa.inspect(self._connection.engine)
            if not inspector.has_table(table) and "." in inner:
                schema, _, table = inner.partition(".")
            if not inspector.has_table(table, schema=schema):
                there = sorted([*inspector.get_table_names(), *inspector.get_view_names()])
                raise InputError(
                    f"{self._what}: there is no such table; there {'are' if there else 'is none'} {', '.join(there)}"
                )
            names = [column["name"] for column in inspector.get_columns(table, schema=schema)]
            try:
                key = inspector.get_pk_constraint(table, schema=schema)["constrained_columns"]
            except sa.exc.NoSuchTableError:  # a view
                key = []
        columns = [sa.column(sa.quoted_name(name, True)) for name in names]
        relation = sa.table(sa.quoted_name(table, True), *columns, schema=schema and sa.quoted_name(schema, True))
        return relation, names, key or names[:1], bool(key)

    def _open_query(self, query: str) -> tuple[Any, list[str], list[str], bool]:
        """Return the query, its columns, the first of them as the key, and False: the key is not a primary one."""
        sa = self._sa
        # a colon in it is not a parameter; and a comment at its end must not comment out the rest of the statement
        text = sa.text(query.replace(":", "\\:") + "\n")
        names = self._connection.names_of(sa.select(sa.text("*")).select_from(text.columns().subquery("q")).limit(0))
        if len(set(names)) != len(names):
            raise InputError(f"{self._what}: duplicate names of columns: {', '.join(names)}. Rename them by AS")
        columns = [sa.column(sa.quoted_name(name, True)) for name in names]
        return text.columns(*columns).subquery("q"), names, names[:1], False

    def _count(self, key: Sequence[str], is_primary: bool) -> int:
        """Return the number of rows; raise InputError where the key is not unique or contains a null."""
        sa = self._sa
        counts = [sa.func.count(column) for column in self._key]
        ((rows, *filled),) = self._connection.fetch(sa.select(sa.func.count(), *counts).select_from(self._rows))
        why = ""
        if min(filled) < rows:  # SQLite allows null in primary keys, too
            why = f"{rows - min(filled)} of {rows} rows have null there"
        elif not is_primary:
            distinct = sa.select(*self._key).distinct().subquery("d")
            ((unlike,),) = self._connection.fetch(sa.select(sa.func.count()).select_from(distinct))
            why = f"{rows} rows have {unlike} values there" if unlike < rows else ""
        if why:
            raise InputError(
                f"{self._what}: the order of rows must be fixed, so {', '.join(map(repr, key))} must be a key, but "
                f"{why}. Give the table a primary key, or a SELECT whose first column is unique and not null"
            )
        return int(rows)

    def _keep_keys(self, num_rows: int) -> list[tuple[Any, ...]]:
        """Return the key of every 1024th row, selected by the database."""
        sa = self._sa
        number = sa.func.row_number().over(order_by=self._key).label("runner_number")
        numbered = sa.select(*self._key, number).subquery("n")
        columns = [numbered.c[column.name] for column in self._key]
        picked = sa.select(*columns).where((numbered.c.runner_number - 1) % _STEP == 0).order_by(*columns)
        keys = self._connection.fetch(picked)
        if len(keys) != -(-num_rows // _STEP):
            raise InputError(f"{self._what} was modified while it was opened")
        for value in keys[0] if keys else ():
            if not isinstance(value, _KEYS):
                raise InputError(
                    f"{self._what}: values of the key are {type(value).__name__}; they must be whole numbers, text or "
                    "dates. Give a SELECT whose first column is such a key"
                )
        return keys

    def _fetch(self, start: int, stop: int, keys: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the keys and values of rows; `keys` are those of every 1024th row, on opening."""
        if start >= stop:
            return []
        sa = self._sa
        block, offset = divmod(start, _STEP)
        # without a type nothing is converted, and the database gives the value the type of its counterpart
        kept = [
            sa.bindparam(f"key_{place}", value, sa.types.NullType())
            for place, value in enumerate((keys or self._look().keys)[block])
        ]
        columns = [self._rows.c[name].label(f"runner_{place}") for place, name in enumerate(self._names)]
        first = self._key[0] >= kept[0] if len(kept) == 1 else sa.tuple_(*self._key) >= sa.tuple_(*kept)
        wanted = sa.select(*self._key, *columns).where(first).order_by(*self._key).limit(stop - start).offset(offset)
        records = self._connection.fetch(wanted)
        if len(records) != stop - start:
            raise InputError(f"{self._what} has fewer rows than when it was opened")
        return records

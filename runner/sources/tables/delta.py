"""Rows of a Delta table: those of the Parquet files that its log says are in force."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.imports import import_extra
from runner.core.text import listed
from runner.data.rows import Rows, RowType, RowTypes
from runner.sources.base import DataSpec, Noted, Source, no_such
from runner.sources.many import ManySource
from runner.sources.tables.arrow import ArrowColumns

_FEATURES = {"deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}  # which change no row
_ADVICE = "Write its rows to a table without it: spark.read.format('delta').load(FOLDER).write.parquet('rows')"


class DeltaSource(ManySource):
    """The latest version of a Delta table: its files in order of their paths; partition columns are columns, too.

    Raises:
        InputError: it cannot be read; it has deletion vectors, renamed columns, or features that are not known.
        UsageError: deltalake is missing.
    """

    def __init__(self, spec: DataSpec) -> None:
        import pyarrow as pa

        deltalake = import_extra("deltalake", spec.what, "delta")
        try:
            table = deltalake.DeltaTable(spec.path)
            _check(table, spec)
            actions = pa.table(table.get_add_actions(flatten=True))
            schema = pa.schema(table.schema().to_arrow())
        except InputError:
            raise
        except Exception as error:  # exceptions of several kinds, some of them without a class of their own
            raise InputError(f"{spec.what} cannot be read as a Delta table: {describe(error)}") from error
        if not len(actions):
            raise InputError(f"{spec.what}: version {table.version()} of this Delta table has no files, and no rows")
        paths = [os.path.join(spec.path, unquote(path)) for path in actions.column("path").to_pylist()]
        self._version = table.version()
        self._partitions = [name for name in table.metadata().partition_columns if name in schema.names]
        self._names = spec.choose(schema.names)
        if unknown := [name for name in spec.options.types if name not in schema.names]:
            raise no_such(spec.what, unknown[0], schema.names)
        if not set(self._names) - set(self._partitions):
            raise InputError(f"{spec.what}: {listed(self._names)} are of the table's partitions alone; add a column")
        self._constants = pa.table({name: actions.column(f"partition.{name}") for name in self._partitions})
        self._rows = dict(zip(paths, range(len(paths)), strict=True))
        columns = [spec.inner] if spec.inner else (spec.columns or schema.names)
        super().__init__(
            sorted(paths), replace(spec, inner="", columns=columns), note=""
        )  # the log names those left out

    def digest(self) -> str:
        return checksum_of_text(f"version {self._version} {super().digest()}")

    def _open(self, index: int) -> Source:
        whole, path = self._spec, self._paths[index]
        source = self._open_with(index, self._some(whole, [n for n in self._names if n not in self._partitions]))
        if not (chosen := [name for name in self._names if name in self._partitions]):
            return source
        constants = self._constants.slice(self._rows[path], 1).select(chosen)
        return _WithConstants(source, self._names, constants, replace(self._some(whole, chosen), path=path))

    def _some(self, spec: DataSpec, names: Sequence[str]) -> DataSpec:
        """Return what is asked for, of these columns alone."""
        types = {name: kind for name, kind in spec.options.types.items() if name in names}
        columns = [name for name in spec.columns if name in names]
        keep = [name for name in spec.keep if name in names]
        return replace(spec, columns=columns or keep, keep=keep, options=replace(spec.options, types=types))


class _WithConstants:
    """The rows of a file, with columns that have one value in all of them.

    Args:
        source: the file.
        names: all columns, in order.
        constants: one row of Arrow, with the other columns.
        spec: what is asked for of these.
    """

    def __init__(self, source: Source, names: Sequence[str], constants: Any, spec: DataSpec) -> None:
        self._source = source
        self._names = names
        self._table = constants
        self._columns = ArrowColumns(constants.schema, spec)
        self.num_rows = source.num_rows
        self.row_bytes = source.row_bytes
        own, added = source.row_type, self._columns.row_type
        types = self._named(own, isinstance(own, RowType), added, isinstance(added, RowType))
        self.row_type: RowTypes = types

    def read(self, start: int, stop: int) -> Rows:
        rows = self._source.read(start, stop)
        added = self._columns.rows(self._table.take([0] * (stop - start)), start)
        return self._named(rows, not isinstance(rows, dict), added, not isinstance(added, dict))

    def digest(self) -> str:
        return checksum_of_text(f"{self._source.digest()} {self._table.to_pylist()}")

    def stamp(self) -> str:
        return self._source.stamp()

    @property
    def notes(self) -> Sequence[str]:
        return self._source.notes if isinstance(self._source, Noted) else ()

    def _named(self, own: Any, own_is_one: bool, added: Any, added_is_one: bool) -> dict[str, Any]:
        """Return the columns of both by name, in order; one alone has no name."""
        constant = self._table.column_names
        others = [name for name in self._names if name not in constant]
        both = {**({others[0]: own} if own_is_one else own), **({constant[0]: added} if added_is_one else added)}
        return {name: both[name] for name in self._names}


def _check(table: Any, spec: DataSpec) -> None:
    """Raise InputError where the rows of a table are not those of its files."""
    features = set(table.protocol().reader_features or ())
    if mode := table.metadata().configuration.get("delta.columnMapping.mode", "none"):
        features |= {"columnMapping"} if mode != "none" else set()
    if unknown := sorted(features - _FEATURES):
        raise InputError(f"{spec.what} is a Delta table with {listed(unknown)}, which is not read. {_ADVICE}")
    if "deletionVectors" in features and (num_files := sum(len(batch) for batch in _vectors(table))):
        raise InputError(
            f"{spec.what} is a Delta table with deletion vectors, which mark rows of {num_files} of its files as "
            "deleted. Rewrite these files: REORG TABLE delta.`FOLDER` APPLY (PURGE), of Spark"
        )


def _vectors(table: Any) -> list[Any]:
    import pyarrow as pa

    return pa.RecordBatchReader.from_stream(table.deletion_vectors()).read_all().to_batches()  # type: ignore[no-any-return]

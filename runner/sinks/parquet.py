"""Predictions in a Parquet file, written by pyarrow."""

from typing import Any

from runner.sinks.arrow import TableWriter


class ParquetWriter(TableWriter):
    """A writer of a Parquet file."""

    format_name = "Parquet"

    @staticmethod
    def try_schema(schema: Any) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(schema.empty_table(), pa.BufferOutputStream())

    def open(self, path: str, schema: Any) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetWriter(path, schema)

    def put(self, table: Any) -> None:
        self._file.write_table(table, row_group_size=max(1, len(table)))

    def finish(self) -> None:
        self._file.close()

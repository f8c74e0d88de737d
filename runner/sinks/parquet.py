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

        # numbers that hardly repeat only grow in a dictionary
        self._file = parquet.ParquetWriter(path, schema, use_dictionary=_repeating(schema))

    def put(self, table: Any) -> None:
        self._file.write_table(table, row_group_size=max(1, len(table)))

    def finish(self) -> None:
        self._file.close()


def _repeating(schema: Any) -> list[str]:
    """Return the paths, in Parquet, of the columns that are not of floating-point numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    empty = pa.BufferOutputStream()
    parquet.write_table(schema.empty_table(), empty)
    columns = parquet.ParquetFile(pa.BufferReader(empty.getvalue())).schema
    found = [columns.column(index) for index in range(len(columns))]
    return [column.path for column in found if column.physical_type not in ("FLOAT", "DOUBLE")]

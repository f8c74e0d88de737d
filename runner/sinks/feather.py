"""Predictions in a Feather file, which is an Arrow IPC file, written by pyarrow."""

from typing import Any

from runner.sinks.arrow import TableWriter


class FeatherWriter(TableWriter):
    """A writer of a Feather file, version 2, without compression, so that its readers can map it."""

    format_name = "Feather"

    @staticmethod
    def try_schema(schema: Any) -> None:
        import pyarrow as pa

        if "dictionary<" in str(schema):  # inside of maps; others are stored as their values
            raise pa.ArrowNotImplementedError("one file has one dictionary for all of its batches")
        with pa.ipc.new_file(pa.BufferOutputStream(), schema) as file:
            file.write_table(schema.empty_table())

    def open(self, path: str, schema: Any) -> None:
        import pyarrow as pa

        self._storage = pa.OSFile(path, "wb")
        self._file = pa.ipc.new_file(self._storage, schema)

    def put(self, table: Any) -> None:
        self._file.write_table(table.combine_chunks())

    def finish(self) -> None:
        self._file.close()
        self._storage.close()

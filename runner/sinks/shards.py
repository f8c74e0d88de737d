"""Predictions in a folder of files, each with a range of rows: `NAME.partial/`, renamed to `NAME/` when complete.

A row's file depends on its index alone, so the folder is the same however many ranks have written it. A file is written
by one rank at a time: this is safe on every file system that the ranks share. An index, written last, names the files
in order: `index.json`, or `_index.json` in formats whose tools read complete folders and ignore such names.
"""

import json
import os
import shutil
import threading
from typing import Any, Protocol

import numpy as np

from runner.chunks.grid import Grid
from runner.data.rows import RowType, RowTypes, dtype_to_json, row_bytes_of
from runner.sinks import INDEX, check_space, path_checksum, rename, storage_errors, sync_folder


class ShardFile(Protocol):
    """A file of the folder; like a Sink, but under its name from the start."""

    def write(self, start: int, rows: np.ndarray) -> None: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...
    def sync(self) -> None: ...
    def complete(self) -> str: ...
    def discard(self) -> None: ...
    def close(self) -> None: ...


class ShardSink:
    """A folder of files of `grid.shard_rows` rows.

    Args:
        output: final name of the folder.
        grid: partition of the rows.
        row_type: row type of the predictions.
        file_type: makes a file from its path, its number of rows and their type; existing rows are kept.
        suffix: suffix of the files.
        index: name of the index.

    Raises:
        OutputError: from every method, when the storage fails.
    """

    def __init__(self, output: str, grid: Grid, row_type: RowTypes, file_type: Any, suffix: str, index: str) -> None:
        self._output = output
        self._partial = f"{output}.partial"
        self._suffix = suffix
        self._grid = grid
        self._row_type = row_type
        self._file_type = file_type
        self._index_name = index
        self._index = -1  # of the open file
        self._file: ShardFile | None = None
        self._changing = threading.Lock()  # another thread may flush the file
        with storage_errors("opening", self._partial):
            os.makedirs(self._partial, exist_ok=True)
        check_space(self._partial, grid.num_rows * row_bytes_of(row_type) if isinstance(row_type, RowType) else 0)

    def write(self, start: int, rows: np.ndarray) -> None:
        index = start // self._grid.shard_rows
        if index != self._index:
            with self._changing:
                self._close_file()
                self._file = self._open_file(index)
                self._index = index
        assert self._file is not None
        self._file.write(start - index * self._grid.shard_rows, rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        index = start // self._grid.shard_rows
        file = self._open_file(index)
        first = index * self._grid.shard_rows
        try:
            return file.read(start - first, stop - first)
        finally:
            file.close()

    def sync(self) -> None:
        with self._changing, storage_errors("flushing", self._partial):
            if self._file is not None:
                self._file.sync()
            sync_folder(self._partial)

    def complete(self) -> str:
        """Complete the files that no rank has completed; see `Sink.complete`."""
        self.close()
        if self._index_name == INDEX:
            return ""
        for index in range(-(-self._grid.num_rows // self._grid.shard_rows)):
            file = self._open_file(index)
            file.complete()
            file.discard()
        with storage_errors("reading", self._partial):
            return path_checksum(self._partial)

    def finish(self) -> None:
        self.close()
        files = [
            {"name": self._name(index), "start": start, "stop": self._stop(start)}
            for index, start in enumerate(range(0, self._grid.num_rows, self._grid.shard_rows))
        ]
        row_type = {}
        if isinstance(self._row_type, RowType) and self._index_name == INDEX:
            row_type = {"row_shape": list(self._row_type.shape), "dtype": dtype_to_json(self._row_type.dtype)}
        with storage_errors("writing", f"{self._partial}/{self._index_name}"):
            with open(f"{self._partial}/{self._index_name}", "w") as file:
                file.write(json.dumps({"num_rows": self._grid.num_rows, **row_type, "files": files}, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._partial)
            self._make_room()
        rename(self._partial, self._output)
        shutil.rmtree(self._former, ignore_errors=True)

    def discard(self) -> None:
        pass

    def close(self) -> None:
        with self._changing:
            self._close_file()

    def _open_file(self, index: int) -> ShardFile:
        start = index * self._grid.shard_rows
        path = f"{self._partial}/{self._name(index)}"
        file: ShardFile = self._file_type(path, self._stop(start) - start, self._row_type)
        return file

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.sync()
            self._file.complete()
            self._file.close()
            self._file = None
            self._index = -1

    def _name(self, index: int) -> str:
        return f"part-{index:06d}{self._suffix}"

    def _stop(self, start: int) -> int:
        return min(start + self._grid.shard_rows, self._grid.num_rows)

    @property
    def _former(self) -> str:
        return f"{self._output}.replaced"

    def _make_room(self) -> None:
        """Move an output to be replaced aside: a folder cannot replace one that is not empty."""
        if os.path.exists(self._output):
            shutil.rmtree(self._former, ignore_errors=True)
            os.replace(self._output, self._former)

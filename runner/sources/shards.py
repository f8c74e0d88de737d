"""Rows of a folder written by the runner: several files, and `index.json`, which names them in order."""

import json
from bisect import bisect_right
from pathlib import Path

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError
from runner.core.text import plural
from runner.data.rows import Rows, RowType, concatenate, dtype_from_json
from runner.sources import open_source
from runner.sources.base import DataSpec, Source, evenly
from runner.sources.files import file_stamp

_DIGESTED_FILES = 8


class ShardSource:
    """A folder of files, each with a range of rows.

    Raises:
        InputError: it has no index, or a file does not match the index.
    """

    def __init__(self, spec: DataSpec) -> None:
        spec.refuse_names()
        path, self._path = spec.path, Path(spec.path)
        try:
            self._text = (self._path / "index.json").read_text()
            index = json.loads(self._text)
            self.num_rows = int(index["num_rows"])
            self.row_type = RowType(tuple(index["row_shape"]), dtype_from_json(index["dtype"]).newbyteorder("="))
            self._files = [(file["name"], int(file["start"]), int(file["stop"])) for file in index["files"]]
        except OSError as error:
            raise InputError(
                f"--data {path} is a folder, and its index.json cannot be read: {error.strerror}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if '"shards"' in self._text or '"chunks"' in self._text:
                raise InputError(
                    f"--data {path} is a folder of a streaming library (mosaicml-streaming, LitData): give the name of "
                    "a function, --data module:function, that returns its StreamingDataset"
                ) from error
            raise InputError(f"--data {path}: index.json is not the index of a folder of rows ({error!r})") from error
        self._starts = [start for _, start, _ in self._files]
        if [*self._starts, self.num_rows] != [0, *(stop for _, _, stop in self._files)]:
            raise InputError(f"--data {path}: the files in index.json do not add up to {plural(self.num_rows, 'row')}")
        self.row_bytes = self.row_type.row_bytes
        self._latest: tuple[int, Source] | None = None

    def read(self, start: int, stop: int) -> Rows:
        parts: list[Rows] = []
        position = bisect_right(self._starts, start) - 1
        while start < stop:
            _, first, last = self._files[position]
            end = min(stop, last)
            parts.append(self._open(position).read(start - first, end - first))
            start = end
            position += 1
        return (
            parts[0]
            if len(parts) == 1
            else concatenate(parts or [np.empty((0, *self.row_type.shape), self.row_type.dtype)])
        )

    def digest(self) -> str:
        chosen = evenly(len(self._files), _DIGESTED_FILES)
        return checksum_of_text(" ".join([self._text, *(self._open(index).digest() for index in chosen)]))

    def stamp(self) -> str:
        stamps = [file_stamp(str(self._path / name)) for name in ("index.json", *(name for name, _, _ in self._files))]
        return checksum_of_text(" ".join(stamps))

    def _open(self, position: int) -> Source:
        latest = self._latest  # read once: two threads may be here
        if latest is None or latest[0] != position:
            name, start, stop = self._files[position]
            source = open_source(str(self._path / name))
            if (source.num_rows, source.row_type) != (stop - start, self.row_type):
                raise InputError(
                    f"--data {self._path / name} holds {source.num_rows} rows of {source.row_type}; "
                    f"index.json says {stop - start} of {self.row_type}"
                )
            self._latest = latest = position, source
        return latest[1]

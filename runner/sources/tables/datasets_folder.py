"""Rows of a folder written by `datasets.Dataset.save_to_disk`, read by Hugging Face's Datasets."""

import json
import math
import threading
from pathlib import Path
from typing import Any

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.text import row_range
from runner.data.rows import Rows, RowTypes
from runner.host.environment import set_default
from runner.sources.base import DataSpec
from runner.sources.files import LocalFile, file_stamp
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.arrow_types import is_list, shape_of_lists

_DECIDING_ROWS = 1000
_SAMPLED_ROWS = 100
_SAMPLES = 64  # rows, evenly from the first to the last, of which the digest is made


class DatasetsSource:
    """Columns of a data set saved to a folder; its files are memory-mapped and never read as a whole.

    Raises:
        InputError: no such column; the folder is damaged, or holds several data sets; a column's type is not numbers,
            lists of them, or text.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._folder, self._what = Path(spec.path), spec.what
        self._check_folder()
        datasets = _import_datasets()
        try:
            dataset = datasets.load_from_disk(spec.path, keep_in_memory=False)
        except Exception as error:  # of one kind or another by what is wrong with which of its files
            raise InputError(f"{self._what}: Datasets cannot read the folder: {describe(error)}") from error
        self._files = [self._folder / "state.json", *(Path(file["filename"]) for file in dataset.cache_files)]
        self._mapped = [LocalFile(str(file)) for file in self._files[1:]]
        self._columns = ArrowColumns(_plain_schema(dataset.data.schema), spec, _Facts(dataset.data))
        self._rows = dataset.with_format("arrow").select_columns(self._columns.names)
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows share it
        self.row_type: RowTypes = self._columns.row_type
        self.num_rows: int = dataset.num_rows
        taken = dataset.data.nbytes * len(self._columns.names) // max(1, len(dataset.column_names))
        self.row_bytes = taken // max(1, self.num_rows) + self._columns.decoded_bytes

    def read(self, start: int, stop: int) -> Rows:
        return self._columns.rows(self._table(start, stop), start)

    def digest(self) -> str:
        step = max(1, -(-self.num_rows // _SAMPLES))
        sampled = [*range(0, self.num_rows, step), *range(max(0, self.num_rows - 1), self.num_rows)]
        types = [str(field) for field in _plain_schema(self._table(0, 0).schema)]
        rows = [self._table(row, row + 1).to_pylist() for row in sampled]
        return checksum_of_text(f"{self.num_rows} {types} {rows!r}{self._columns.reading}")

    def stamp(self) -> str:
        return " ".join(file_stamp(str(file)) for file in self._files)

    def _table(self, start: int, stop: int) -> Any:
        import pyarrow as pa

        for file in self._mapped:
            file.check_length()
        try:
            with self._lock:
                table = self._rows[start:stop]
            plain = _plain_schema(table.schema)
            columns = [_plain(table.column(name), plain.field(name).type) for name in table.column_names]
            return pa.table(columns, schema=plain)
        except Exception as error:
            raise InputError(f"{self._what}: {row_range(start, stop)} cannot be read: {describe(error)}") from error

    def _check_folder(self) -> None:
        """Raise InputError for problems that Datasets does not report, or not clearly."""
        if (self._folder / "dataset_dict.json").exists():
            splits = sorted(file.parent.name for file in self._folder.glob("*/dataset_info.json"))
            raise InputError(
                f"{self._what} holds several data sets: {', '.join(splits)}. Give one, such as "
                f"--data {self._folder / (splits or ['train'])[0]}"
            )
        state = self._folder / "state.json"
        try:
            files = [file["filename"] for file in json.loads(state.read_text())["_data_files"]]
        except OSError as error:
            raise InputError(
                f"{self._what}: state.json: {error.strerror}. A folder of Dataset.save_to_disk has one"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self._what}: state.json is damaged: {describe(error)}") from error
        if not files:
            raise InputError(f"{self._what} has no rows, and no files for them, which Datasets cannot read")
        for name in files:
            if not (self._folder / name).is_file():
                raise InputError(f"{self._what}: {name}: No such file, though state.json names it")


class _Facts:
    """Facts from the columns of a data set in memory; see `Facts`."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the lengths of lists that all of the first rows have, if as many values are in the data set."""
        column = self._table.column(name)
        shape = shape_of_lists(column.slice(0, _DECIDING_ROWS))
        if not shape:
            return None
        values = 0
        for chunk in column.chunks:
            while is_list(chunk.type):
                chunk = chunk.flatten()  # noqa: PLW2901 - from the outside in
            values += len(chunk)
        return shape if values == (len(column) - column.null_count) * math.prod(shape) else None

    def sample(self, name: str) -> Any:
        return self._table.column(name).slice(0, _SAMPLED_ROWS)

    def has_nulls(self, name: str) -> bool:
        return bool(self._table.column(name).null_count)


def _import_datasets() -> Any:
    # compute nodes have no internet; nothing is to be asked for there
    set_default("HF_DATASETS_OFFLINE", "1")
    set_default("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets


def _plain_schema(schema: Any) -> Any:
    """Return a schema without Datasets' own types: `Array2D` and the like become nested lists of fixed lengths."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: Any) -> Any:
    import pyarrow as pa

    if not isinstance(kind, pa.BaseExtensionType):
        return kind
    shape = getattr(kind, "shape", None)
    if not shape or None in shape:
        return kind.storage_type
    plain = kind.storage_type
    for _ in shape:
        plain = plain.value_type
    for length in reversed(shape):
        plain = pa.list_(plain, length)
    return plain


def _plain(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type).cast(kind)

"""Predictions in an HDF5 file, written by h5py: a data set for each column."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.core.errors import OutputError, UsageError
from runner.data.columns import Columns
from runner.data.rows import TEXT, Ragged, RowType, texts_of
from runner.sinks import check_space
from runner.sinks.layout import ChunkedArray, chunk_shape, trying

_CHUNK_BYTES = 1 << 20  # what HDF5 holds in its cache by default
_ELEMENT_BYTES = 16  # of variable length, as HDF5 refers to them


class Hdf5Writer:
    """A writer of columns of fixed shape as arrays; variable-length 1-D rows and text are variable-length elements.

    Args:
        path: path of the file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
        attributes: origin of the predictions, for attributes of the file.

    Attributes:
        format_name: the format, for messages.
    """

    format_name: ClassVar[str] = "HDF5"
    _options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def check(cls, output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where h5py is missing, or the format cannot hold a column."""
        import h5py

        for name, row_type in types.items():
            if not cls.holds(row_type):
                what = f"{cls.format_name} cannot hold {name!r}, {row_type} per row{cls.others(row_type)}"
                raise UsageError(f"--output {output}: {what}")
        with h5py.File("check", "w", driver="core", backing_store=False, **cls._options) as file:
            for name in types:
                with trying(output, cls.format_name, name):
                    cls.create(file, name, types, 1)

    @classmethod
    def holds(cls, row_type: RowType) -> bool:
        """Return whether the format can hold rows of a type."""
        return not row_type.is_ragged or len(row_type.shape) == 1

    @classmethod
    def others(cls, row_type: RowType) -> str:
        """Return which formats can hold rows that this one cannot, for messages."""
        return "; .parquet and .jsonl can"

    @classmethod
    def stored(cls, row_type: RowType) -> Any:
        """Return the dtype in which the numbers of a row are stored."""
        return row_type.dtype

    def __init__(
        self, path: str, types: Mapping[str, RowType], num_rows: int, attributes: Mapping[str, str] | None = None
    ) -> None:
        import h5py

        # first, because HDF5 only meets a full disk on closing, and reports it in tracebacks
        check_space(path, num_rows * sum(row_type.row_bytes for row_type in types.values() if not row_type.is_ragged))
        self._file = h5py.File(path, "w", **self._options)
        self._file.attrs.update(attributes or {})
        self._row = 0
        data_sets = {name: self.create(self._file, name, types, num_rows) for name in types}
        self._arrays = {
            name: ChunkedArray(each, each.chunks[0] if each.chunks else 1) for name, each in data_sets.items()
        }

    @classmethod
    def create(cls, file: Any, name: str, types: Mapping[str, RowType], num_rows: int) -> Any:
        """Make the data set of one of the columns, and return it."""
        import h5py

        row_type = types[name]
        dtype = cls.stored(row_type)
        if row_type.dtype == TEXT:
            dtype = h5py.string_dtype()
        elif row_type.is_ragged:
            dtype = h5py.vlen_dtype(row_type.dtype)
        shape = (num_rows,) if row_type.is_ragged else (num_rows, *row_type.shape)
        item_bytes = _ELEMENT_BYTES if row_type.is_ragged else row_type.dtype.itemsize
        chunks = chunk_shape(shape, item_bytes, _CHUNK_BYTES) if all(shape) else None
        return file.create_dataset(name, shape, dtype, chunks=chunks, **cls._options)

    def write(self, columns: Columns) -> None:
        for name, column in columns.items():
            if not isinstance(column, Ragged):
                self._arrays[name].write(column)
                continue
            items: list[Any] = np.split(column.values, column.offsets[1:-1])
            if column.values.dtype == TEXT:
                items = texts_of(column)
                _refuse_nul(items, name, self._row)
            elements = np.empty(len(items), object)
            for index, item in enumerate(items):
                elements[index] = item
            self._arrays[name].write(elements)
        self._row += max(len(column) for column in columns.values())

    def close(self) -> None:
        for array in self._arrays.values():
            array.flush()
        self._file.close()


def _refuse_nul(texts: list[str], name: str, first_row: int) -> None:
    """Raise OutputError where a text has a NUL, with which texts of HDF5 end."""
    for row, text in enumerate(texts, first_row):
        if "\0" in text:
            raise OutputError(
                f"--output: row {row} of {name!r} is text with a NUL, which HDF5 cannot hold. Remove it with "
                "--postprocess or from the data, or write .parquet"
            )

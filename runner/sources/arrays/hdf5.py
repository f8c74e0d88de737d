"""Rows of the data sets in an HDF5 file, read by h5py."""

import math
import threading
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType, name_rows, num_rows_of, ragged
from runner.sources.arrays.hdf5_fields import FieldArray, chosen_fields
from runner.sources.arrays.hdf5_file import check_filters, datasets_in, find_dataset, open_hdf5
from runner.sources.arrays.named import ByChunks, NamedSource, text_of, the_only
from runner.sources.arrays.packed import Packing, find_packing
from runner.sources.arrays.unwritten import files_of_virtual, note_on_hdf5
from runner.sources.base import DataSpec, check_decoded, check_dtype
from runner.sources.files import File, file_stamp, open_file, read_range

_SAMPLES = 3  # from which the length of rows is estimated
_SAMPLE_ROWS = 32


class Hdf5Source(NamedSource):
    """An HDF5 file: data sets by their paths in it, whose first axis is the rows.

    Data sets may be chunked and compressed, of numbers, of fields that are numbers, of variable-length sequences, or
    text. The latest chunk of each is kept in memory: small chunks (a few MiB) suit random access.

    Raises:
        UsageError: the compression filter of a data set is missing.
        InputError: no such file or data set, no HDF5 file, several data sets and none chosen, data sets with different
            numbers of rows, or of a type that is neither numbers nor text.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._path, self._raw = spec.path, open_file(spec.path)
        self._file = open_hdf5(self._raw)
        lock = threading.Lock()  # for all data sets: HDF5 is not thread-safe
        datasets, fields = self._chosen(spec)
        self._chunk_rows = max((dataset.chunks or (1,))[0] for dataset in datasets.values())
        arrays = {}
        self._parts: list[str] = []
        self._opened: dict[str, Any] = {}
        for name, dataset in datasets.items():
            what = f"{spec.what}::{dataset.name.lstrip('/') if fields else name}"
            self._parts += files_of_virtual(dataset, spec.path, what)
            self._opened[what] = dataset
            array = (
                FieldArray(dataset, name, what) if fields else DatasetArray(dataset, self._raw, f"{spec.what}::{name}")
            )
            arrays[name] = ByChunks(array, (dataset.chunks or (1,))[0], lock, len(datasets))
        super().__init__(spec.path, arrays)

    @property
    def notes(self) -> list[str]:
        notes = [note_on_hdf5(dataset, what) for what, dataset in self._opened.items()]
        return list(filter(None, notes))

    def digest(self) -> str:
        return self.digest_of_samples(self._chunk_rows)

    def stamp(self) -> str:
        return " ".join([self._raw.stamp(), *map(file_stamp, self._parts)])

    def _chosen(self, spec: DataSpec) -> tuple[dict[str, Any], bool]:
        """Return the data sets by column, and whether the columns are fields of one data set."""
        table = spec.inner or next(iter(datasets_in(self._file)), "")
        if table and (spec.inner or len(datasets_in(self._file)) == 1):
            dataset = find_dataset(self._file, spec.path, table)
            if fields := chosen_fields(dataset, spec):
                check_filters(dataset, f"{spec.what}::{table}")
                return dict.fromkeys(fields, dataset), True
        return {name: find_dataset(self._file, spec.path, name) for name in spec.names(self._default)}, False

    def _default(self) -> list[str]:
        return the_only(self._path, datasets_in(self._file), "dataset")


class DatasetArray:
    """A data set of a file.

    Args:
        dataset: the data set.
        raw: the file.
        what: the data set, for messages.
    """

    def __init__(self, dataset: Any, raw: File, what: str) -> None:
        self._dataset = dataset
        self._raw = raw
        self._what = what
        self._packing: Packing | None = None
        if not dataset.shape:
            raise InputError(f"{self._what} is a single value or empty; its first axis must be the rows")
        if "MATLAB_class" in dataset.attrs and len(dataset.shape) > 1:
            raise InputError(
                f"{self._what} was written by MATLAB, which stores the axes in reverse: here the last one of "
                f"{dataset.shape} is the rows. Rename the file to end in .mat"
            )
        check_filters(dataset, self._what)
        chunk_bytes = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        check_decoded(chunk_bytes, self._what, "chunks", "Save it again with smaller ones: create_dataset(chunks=...)")
        self.num_rows: int = dataset.shape[0]
        self.row_type = self._type()
        self.row_bytes = self.row_type.row_bytes
        if self.row_type.is_ragged:
            self.row_bytes = self._mean_bytes()

    def read(self, start: int, stop: int) -> Column:
        try:
            converted = self._convert(self._dataset[start:stop])
        except Exception as error:  # a damaged chunk raises one of many exception types
            rows = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {rows} cannot be read: {describe(error)}") from error
        read_range(self._raw, self._raw.size - 1, self._raw.size)  # raises where the end is missing: HDF5 reads zeros
        return converted

    def _type(self) -> RowType:
        import h5py

        dtype: np.dtype[Any] = self._dataset.dtype
        shape: tuple[int, ...] = self._dataset.shape[1:]
        items = h5py.check_vlen_dtype(dtype)
        is_text = h5py.check_string_dtype(dtype) is not None
        if (is_text or items is not None) and shape:
            raise InputError(
                f"{self._what} is of shape {self._dataset.shape}, of {'text' if is_text else 'sequences'}; there must "
                "be one in each row"
            )
        if is_text:
            return RowType(RAGGED, TEXT)
        if items is not None:
            items = np.dtype(items)
            check_dtype(items, self._what)
            if items.names or items.newbyteorder("=") != items:  # h5py 3.16 reads wrong numbers in other byte orders
                raise InputError(
                    f"{self._what} is of sequences of {items}; they must be of numbers in this machine's byte order"
                )
            return RowType(RAGGED, items)
        if dtype.subdtype is not None:  # each value is an array, whose axes come last
            dtype, inner_shape = dtype.subdtype
            shape += inner_shape
        check_dtype(dtype, self._what)
        self._packing = find_packing(self._dataset.attrs, dtype, self._what)
        return RowType(shape, self._packing.dtype if self._packing else _packed(dtype, self._what))

    def _convert(self, values: Any) -> Column:
        """Convert h5py's values to a column in memory of its own."""
        if self.row_type.dtype == TEXT:
            return text_of(values)
        if self.row_type.is_ragged:
            return ragged([np.asarray(row, self.row_type.dtype) for row in values], self.row_type.dtype)
        return np.ascontiguousarray(self._packing.unpack(values) if self._packing else values, self.row_type.dtype)

    def _mean_bytes(self) -> int:
        """Return the mean bytes of a row, estimated from the first, middle and last rows."""
        count = min(self.num_rows, _SAMPLE_ROWS)
        total = rows = 0
        for sample in range(_SAMPLES):
            start = (self.num_rows - count) * sample // (_SAMPLES - 1)
            try:
                rows_read = self.read(start, start + count)
            except InputError:  # a bad row, which may be set aside later
                continue
            total += rows_read.values.nbytes if not isinstance(rows_read, np.ndarray) else 0
            rows += num_rows_of(rows_read)
        return max(1, total // max(1, rows))


def _packed(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """Return a dtype in native byte order without padding between fields, whose bytes may have any values."""
    if dtype.names is None:
        return np.dtype(dtype.newbyteorder("=").str)
    fields: list[Any] = []
    for name in dtype.names:
        field = dtype[name]
        if field.base.names is not None:
            raise InputError(
                f"field {name!r} of {what} has fields itself; rows must be numbers, or have fields of numbers"
            )
        fields.append((name, np.dtype(field.base.newbyteorder("=").str), field.shape))
    return np.dtype(fields)

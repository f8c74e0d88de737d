"""Predictions in a Zarr group (version 3), written by zarr: an array for each column."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError
from runner.data.columns import Columns
from runner.data.rows import RowType
from runner.sinks.layout import ChunkedArray, chunk_shape, dimension_names, trying

_CHUNK_BYTES = 4 << 20


class ZarrWriter:
    """A writer of columns of fixed shape.

    Args:
        path: path of the folder.
        types: types of its columns.
        num_rows: number of rows that it will hold.
        attributes: origin of the predictions, for attributes of the group.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where zarr is missing, or Zarr cannot hold a column."""
        import zarr

        for name, row_type in types.items():
            if row_type.is_ragged:
                raise UsageError(
                    f"--output {output}: Zarr cannot hold {name!r}, {row_type} per row; .parquet and .h5 can"
                )
        group = zarr.group(zarr.storage.MemoryStore(), zarr_format=3)
        for name, row_type in types.items():
            with trying(output, "Zarr", name):
                _create(group, name, row_type, 1, dimension_names(types)[name])

    def __init__(
        self, path: str, types: Mapping[str, RowType], num_rows: int, attributes: Mapping[str, str] | None = None
    ) -> None:
        import zarr

        group = zarr.open_group(path, mode="w", zarr_format=3, attributes=dict(attributes or {}))
        names = dimension_names(types)
        arrays = {name: _create(group, name, kind, num_rows, names[name]) for name, kind in types.items()}
        self._arrays = {name: ChunkedArray(array, array.chunks[0]) for name, array in arrays.items()}

    def write(self, columns: Columns) -> None:
        for name, column in columns.items():
            assert isinstance(column, np.ndarray)
            self._arrays[name].write(column)

    def close(self) -> None:
        for array in self._arrays.values():
            array.flush()


def _create(group: Any, name: str, row_type: RowType, num_rows: int, dimensions: list[str]) -> Any:
    shape = (num_rows, *row_type.shape)
    return group.create_array(
        name,
        shape=shape,
        dtype=row_type.dtype,
        chunks=chunk_shape(shape, row_type.dtype.itemsize, _CHUNK_BYTES),
        dimension_names=dimensions,  # xarray opens no array without them
        config={"write_empty_chunks": True},  # so that a chunk that is gone is told from one of zeros
    )

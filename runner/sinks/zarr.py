"""Predictions in a Zarr group (version 3), written by zarr: an array for each column."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError
from runner.data.columns import Columns
from runner.data.rows import RowType

_CHUNK_BYTES = 4 << 20


class ZarrWriter:
    """A writer of columns of fixed shape.

    Args:
        path: path of the folder.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where zarr is missing, or Zarr cannot hold a column."""
        import zarr  # noqa: F401 - a missing library is reported here

        for name, row_type in types.items():
            if row_type.is_ragged:
                raise UsageError(
                    f"--output {output}: Zarr cannot hold {name!r}, {row_type} per row; .parquet and .h5 can"
                )

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        import zarr

        group = zarr.open_group(path, mode="w", zarr_format=3)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._row = 0
        for name, row_type in types.items():
            rows = max(1, min(num_rows, _CHUNK_BYTES // max(1, row_type.row_bytes)))
            chunks = (rows, *(max(1, length) for length in row_type.shape))
            axes = [f"{name}_{axis}" for axis in range(len(row_type.shape))]
            self._arrays[name] = group.create_array(
                name,
                shape=(num_rows, *row_type.shape),
                dtype=row_type.dtype,
                chunks=chunks,
                dimension_names=["row", *axes],  # xarray opens no array without them
                config={"write_empty_chunks": True},  # so that a chunk that is gone is told from one of zeros
            )

    def write(self, columns: Columns) -> None:
        for name, column in columns.items():
            assert isinstance(column, np.ndarray)
            self._arrays[name][self._row : self._row + len(column)] = column
        self._row += max(len(column) for column in columns.values())

    def close(self) -> None:
        pass

"""Predictions in a netCDF-4 file, which is an HDF5 file with dimension scales, written by h5py."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.rows import TEXT, RowType
from runner.sinks.hdf5 import Hdf5Writer
from runner.sinks.layout import dimension_names

_NAME = re.compile(r"[^\W\x00-\x1f][^\x00-\x1f/\x7f]*(?<! )")  # as netCDF has them
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. {:10d}"  # the words by which netCDF knows one


class NetcdfWriter(Hdf5Writer):
    """A writer of a variable for each column; text is in strings, bool in bytes that xarray takes for bool."""

    format_name = "netCDF"
    _options: ClassVar[dict[str, Any]] = {"track_order": True}  # which netCDF needs in a file that it adds to

    @classmethod
    def holds(cls, row_type: RowType) -> bool:
        return row_type.dtype == TEXT or (not row_type.is_ragged and row_type.dtype.kind != "c")

    @classmethod
    def others(cls, row_type: RowType) -> str:
        if row_type.dtype.kind != "c":
            return super().others(row_type)
        return ". Give its real and imaginary parts with --postprocess (torch.view_as_real), or write .h5"

    @classmethod
    def stored(cls, row_type: RowType) -> Any:
        others = {np.dtype(np.float16): np.dtype(np.float32), np.dtype(np.bool_): np.dtype(np.int8)}
        return others.get(row_type.dtype, row_type.dtype)

    @classmethod
    def create(cls, file: Any, name: str, types: Mapping[str, RowType], num_rows: int) -> Any:
        if not _NAME.fullmatch(name):
            raise ValueError("names begin with a letter, a digit or _, and have no / and no blank at the end")
        variable = super().create(file, name, types, num_rows)
        if types[name].dtype == np.bool_:
            variable.attrs["dtype"] = "bool"
        for axis, dimension in enumerate(dimension_names(types)[name]):
            if dimension not in file:
                number = sum(data_set.is_scale for data_set in file.values())
                scale = file.create_dataset(dimension, (variable.shape[axis],), ">f4", **cls._options)
                scale.make_scale(_NO_VARIABLE.format(variable.shape[axis]))
                scale.attrs["_Netcdf4Dimid"] = np.int32(number)
            variable.dims[axis].attach_scale(file[dimension])
        return variable

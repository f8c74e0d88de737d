"""Outputs as their own libraries read them."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet
import zarr


def _plain(values: list[Any]) -> list[Any]:
    """Lists in place of the arrays that pandas has for them."""
    return [_plain(value.tolist()) if isinstance(value, np.ndarray) else value for value in values]


def read_back(path: Path) -> dict[str, list[Any]]:
    """An output as its own library reads it."""
    if path.suffix == ".npy":
        array = np.load(path)
        return (
            {name: array[name].tolist() for name in array.dtype.names}
            if array.dtype.names
            else {"predictions": array.tolist()}
        )
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pydict()
    if path.suffix == ".feather":
        return {str(name): _plain(values.tolist()) for name, values in pd.read_feather(path).items()}
    if path.suffix in (".csv", ".tsv"):
        frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)
        found: dict[str, list[Any]] = {}
        for name in frame:
            vector, _, index = str(name).rpartition("_")
            if index.isdecimal():
                for row, value in enumerate(frame[name].tolist()):
                    column = found.setdefault(vector, [[] for _ in range(len(frame))])
                    column[row].append(value)
            else:
                found[str(name)] = frame[name].tolist()
        return found
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {name: [line[name] for line in lines] for name in lines[0]}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: [v.decode() if isinstance(v, bytes) else v.tolist() for v in file[name]] for name in file}
    group = zarr.open_group(path, mode="r")
    return {name: group[name][:].tolist() for name in group.array_keys()}

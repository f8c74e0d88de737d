"""Rows of a map-style PyTorch data set, read one by one; given from Python, or by the name of a function for it."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from torch.utils.data import Dataset, IterableDataset

from runner.core.errors import InputError, RunnerError, UsageError, describe
from runner.core.imports import load_attribute
from runner.core.tracebacks import traceback_of
from runner.data.rows import Rows, RowTypes
from runner.sources.base import DataSpec, no_such
from runner.sources.items import ONE, as_column, columns_of, describe_item, fits, type_of_items

_DECIDING_ITEMS = 100  # row types are those of so many items, evenly from the first to the last
_DIGESTED_ITEMS = 16


class TorchDatasetSource:
    """A data set with `__len__` and `__getitem__`, whose items are rows.

    An item is a tensor, an array, a number or a string; a tuple or list of these, as columns "0", "1", and so on; or a
    mapping of them by name. 1-D items may be variable-length rows.

    Args:
        spec: its path is `package.module:function`, called with the arguments of its options to make the data set.
        dataset: the data set, where it is given from Python.

    Raises:
        ModelError: the function cannot be imported.
        InputError: the function fails, or gives no such data set; no such column; no item can be read, items are of a
            type that rows cannot have, or the first changes when it is read again.
    """

    def __init__(self, spec: DataSpec, dataset: Any = None) -> None:
        self._what = spec.what if dataset is None else f"data, a {type(dataset).__name__},"
        self._dataset = _make(spec) if dataset is None else dataset
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows share the data set
        self.num_rows = self._length()
        items = self._sample(_DECIDING_ITEMS)
        self._names = self._choose(list(items.values()), spec)
        full_items = {index: item for index, item in items.items() if set(self._names) <= set(item)}
        self._types = {
            name: type_of_items(
                [item[name] for item in full_items.values()], self._what + f" column {name!r}" * bool(name)
            )
            for name in self._names
        }
        self.row_type: RowTypes = self._types[self._names[0]] if len(self._names) == 1 else self._types
        size = sum(item[name].nbytes for item in full_items.values() for name in self._names)
        self.row_bytes = size // max(1, len(full_items))
        self._check_repeats(full_items)

    def read(self, start: int, stop: int) -> Rows:
        items = [self._item(index) for index in range(start, stop)]
        for row, item in enumerate(items, start):
            self._check(row, item)
        columns = {name: as_column([item[name] for item in items], self._types[name]) for name in self._names}
        return columns[self._names[0]] if len(self._names) == 1 else columns

    def digest(self) -> str:
        types = {name: str(kind) for name, kind in self._types.items()}
        state = xxhash.xxh3_128(f"{self.num_rows} {types}".encode())
        for index, item in self._sample(_DIGESTED_ITEMS).items():
            for name in self._names:
                value = item.get(name, np.empty(0))
                state.update(f"{index} {name} {describe_item(value)}".encode() + value.tobytes())
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        return ""  # only its items identify the data set

    def _length(self) -> int:
        has_rows = has_items(self._dataset)
        if isinstance(self._dataset, IterableDataset) and not has_rows:
            raise InputError(
                f"{self._what} is an IterableDataset, of which only the next item can be had: rows could not be shared "
                "out among ranks. Give a data set with __getitem__ and __len__, or write its items to a file first"
            )
        if not has_rows:
            raise InputError(
                f"{self._what} is a {type(self._dataset).__name__}, without __getitem__ or __len__, by which rows are "
                "read and shared out"
            )
        try:
            return len(self._dataset)
        except Exception as error:
            raise InputError(f"{self._what} has no length: {describe(error)}", traceback_of(error)) from error

    def _choose(self, items: Sequence[dict[str, np.ndarray]], spec: DataSpec) -> list[str]:
        """Return the names of the columns to read."""
        if not items:
            return spec.names(lambda: ()) or [ONE]
        there = list(Counter(tuple(item) for item in items).most_common(1)[0][0])
        if not there:
            raise InputError(f"{self._what} has items without anything in them")
        names = spec.names(lambda: there)
        for name in names:
            if there == [ONE] != [name]:
                raise InputError(f"{self._what} has no column {name!r}; its items are one thing each, without names")
            if name not in there:
                raise no_such(self._what, name, there)
        return names

    def _sample(self, most: int) -> dict[int, dict[str, np.ndarray]]:
        """Return items by index, evenly from the first to the last, without those that cannot be read."""
        items, first_error = {}, None
        last = self.num_rows - 1
        for index in sorted({last * place // (most - 1) for place in range(most)} if self.num_rows else ()):
            try:
                items[index] = self._item(index)
            except InputError as error:
                first_error = first_error or error
        if first_error and not items:
            raise first_error
        return items

    def _item(self, index: int) -> dict[str, np.ndarray]:
        try:
            with self._lock:
                return columns_of(self._dataset[index])
        except Exception as error:
            raise InputError(f"{self._what} row {index}: {describe(error)}", traceback_of(error)) from error

    def _check(self, row: int, item: dict[str, np.ndarray]) -> None:
        """Raise InputError where an item lacks a column or differs from the row type."""
        for name in self._names:
            what = f"{self._what} row {row}" + f" of column {name!r}" * bool(name)
            if name not in item:
                raise InputError(f"{what} is not there; it has {', '.join(item) or 'nothing'}")
            if not fits(item[name], self._types[name]):
                raise InputError(f"{what} is {describe_item(item[name])}, where others are {self._types[name]}")

    def _check_repeats(self, items: dict[int, dict[str, np.ndarray]]) -> None:
        """Raise InputError where the first item differs when it is read again."""
        for index, item in list(items.items())[:1]:
            again = self._item(index)
            for name in self._names:
                if name not in again or again[name].tobytes() != item[name].tobytes():
                    raise InputError(
                        f"{self._what} row {index} differs each time it is read, so predictions could not be verified. "
                        "Leave out random transforms"
                    )


def has_items(data: Any) -> bool:
    """Return whether an object has rows by number, whatever its class: some iterable data sets have, too."""
    kind = type(data)
    is_abstract = getattr(kind, "__getitem__", None) in (None, Dataset.__getitem__)
    return hasattr(kind, "__len__") and not is_abstract


def _make(spec: DataSpec) -> Any:
    """Return the data set that a function returns, or that exists under this name already."""
    target = load_attribute(spec.path, "--data")
    if hasattr(target, "__getitem__") and not isinstance(target, type):
        if spec.options.args:
            raise UsageError(f"{spec.what} is a data set itself, and takes no --data-args")
        return target
    try:
        return target(**spec.options.args)
    except RunnerError:
        raise
    except Exception as error:
        raise InputError(f"{spec.what} failed with {describe(error)}", traceback_of(error)) from error

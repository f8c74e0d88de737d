"""Rows of an AnnData file or Zarr folder: observations, by the form on disk that the library documents."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.sources.arrays.csr import CsrArray
from runner.sources.arrays.named import Array, ByChunks, NamedSource
from runner.sources.arrays.nullable import Categories, Masked, NodeReader, NullableArray
from runner.sources.base import DataSpec, ReadOptions, Source, no_such

_FORM = "encoding-type"
_WHOLE, _FRAME = "anndata", "dataframe"
_ARRAYS = ("array", "string-array", "")
_NULLABLE = ("nullable-integer", "nullable-boolean", "nullable-string-array")
_MATRIX, _OBSERVATIONS = "X", "obs"
_NAMES = "obs_names"  # the library's word for the index
_GROUPS = ("layers", "obsm", _OBSERVATIONS)


class AnnDataSource(NamedSource):
    """AnnData: `X`, `raw/X`, `layers/NAME` and `obsm/NAME`, dense or CSR; columns of `obs` by name, and `obs_names`.

    Args:
        spec: the data set.
        root: the opened file or folder.
        read_node: makes the array of a dense one in it.
        stamp: see `Source.stamp`.
        note_on: returns a note on the parts of an array that are not there.

    Raises:
        InputError: no such matrix or column, or one in a form that has no rows.
    """

    def __init__(
        self,
        spec: DataSpec,
        root: Any,
        read_node: NodeReader,
        stamp: Callable[[], str],
        note_on: Callable[[Any, str], str],
    ) -> None:
        self._root = root
        self._read_node = read_node
        self._stamp = stamp
        self._note_on = note_on
        self._opened: dict[str, Any] = {}
        known = _elements(root)
        names = spec.names(lambda: [_MATRIX])
        self._lock = threading.Lock()
        self._num_arrays = len(names)
        self._chunk_rows = 1
        arrays = {}
        for name in names:
            if name not in known:
                raise no_such(spec.what, name, list(known), "matrix or column")
            arrays[name] = self._array(root[known[name]], f"{spec.what}::{name}", name, spec.options)
        super().__init__(spec.path, arrays)

    @property
    def notes(self) -> list[str]:
        return list(filter(None, (self._note_on(array, what) for what, array in self._opened.items())))

    def digest(self) -> str:
        return self.digest_of_samples(self._chunk_rows)

    def stamp(self) -> str:
        return self._stamp()

    def _array(self, node: Any, what: str, name: str, options: ReadOptions) -> Array:
        form = _form_of(node)
        if form == "csr_matrix":
            self._opened[what] = node["data"]
            matrix = CsrArray(node["data"], node["indices"], node["indptr"], node.attrs["shape"], what)
            return ByChunks(matrix, 1, self._lock, self._num_arrays)
        if form == "categorical":
            codes, categories = (self._dense(node[key], what) for key in ("codes", "categories"))
            return NullableArray(Categories(codes, categories, what), options, name, what)
        if form in _NULLABLE:
            values, mask = (self._dense(node[key], what) for key in ("values", "mask"))
            return NullableArray(Masked(values, mask), options, name, what)
        if form in _ARRAYS and hasattr(node, "shape"):
            if "categories" not in node.attrs:
                self._opened[what] = node
                return self._dense(node, what)
            where = node.attrs["categories"]  # as anndata 0.7 wrote it
            if isinstance(where, str):
                raise InputError(f"{what} was written by anndata 0.7. Read it with the library, and write it anew")
            categories = self._dense(self._root[where], what)
            return NullableArray(Categories(self._dense(node, what), categories, what), options, name, what)
        if form == "csc_matrix":
            raise InputError(
                f"{what} is a sparse matrix by columns (CSC), of which no row can be read alone. Write it by "
                f"rows: {_command(name)}"
            )
        raise InputError(f"{what} is of the form {form or 'of a group'!r}, which has no rows of numbers or text")

    def _dense(self, node: Any, what: str) -> Array:
        """Return a dense array, of which the latest chunk is kept."""
        chunk_rows = int(node.chunks[0]) if node.chunks else 1
        self._chunk_rows = max(self._chunk_rows, chunk_rows)
        return ByChunks(self._read_node(node, what), chunk_rows, self._lock, self._num_arrays)


def is_anndata(root: Any) -> bool:
    """Return whether an opened file or folder holds AnnData, in a form of anndata 0.7 or later."""
    if root.attrs.get(_FORM) == _WHOLE:
        return True
    return _OBSERVATIONS in root and _form_of(root[_OBSERVATIONS]) == _FRAME


def _is_old(root: Any) -> bool:
    """Return whether observations are records, as before anndata 0.7, whose categories are numbers there."""
    observations = root.get(_OBSERVATIONS)
    return getattr(observations, "dtype", None) is not None and observations.dtype.names is not None


def _of_old_form(spec: DataSpec) -> DataSpec:
    """Return what to read of a file of the old form: the matrix alone."""
    if spec.names(lambda: [_MATRIX]) != [_MATRIX]:
        raise InputError(
            f"{spec.what} was written by anndata before 0.7, of which {_MATRIX} alone is read. Write it anew: "
            "anndata.read_h5ad(PATH).write_h5ad('rows.h5ad')"
        )
    return replace(spec, inner=_MATRIX, columns=())


def refuse_null_option(spec: DataSpec) -> None:
    """Raise UsageError where nulls are to be NaN, and the data are plain arrays."""
    if spec.options.null_is_nan:
        raise UsageError(f"{spec.what}: --null is for tables, and these arrays have no null")


def open_h5ad(spec: DataSpec) -> Source:
    """Return the source of an HDF5 file of AnnData, or of another HDF5 file under its suffix."""
    from runner.sources.arrays.hdf5 import DatasetArray, Hdf5Source
    from runner.sources.arrays.hdf5_file import open_hdf5
    from runner.sources.arrays.unwritten import files_of_virtual, note_on_hdf5
    from runner.sources.files import open_file

    file = open_file(spec.path)
    root = open_hdf5(file)
    if not is_anndata(root):
        refuse_null_option(spec)
        return Hdf5Source(_of_old_form(spec) if _is_old(root) else spec)

    def read_node(node: Any, what: str) -> DatasetArray:
        files_of_virtual(node, spec.path, what)
        return DatasetArray(node, file, what)

    return AnnDataSource(spec, root, read_node, file.stamp, note_on_hdf5)


def _command(name: str) -> str:
    """Return Python that writes a matrix by rows."""
    first, _, last = name.partition("/")
    is_raw = first == "raw"
    where = f"d.{first}[{last!r}]" if last and not is_raw else "d.X"
    return (
        f"d = anndata.read_h5ad(PATH){'.raw.to_adata()' * is_raw}; {where} = {where}.tocsr(); d.write_h5ad('rows.h5ad')"
    )


def _form_of(node: Any) -> str:
    form = node.attrs.get(_FORM, "")
    return form.decode(errors="replace") if isinstance(form, bytes) else str(form)


def _elements(root: Any) -> dict[str, str]:
    """Return what rows can be read from: names of users, and the paths that they stand for."""
    elements = {path: path for path in (_MATRIX, "raw/X") if path in root}
    for group in filter(root.__contains__, _GROUPS):
        if _form_of(root[group]) in ("dict", _FRAME, ""):
            elements |= {f"{group}/{name}": f"{group}/{name}" for name in root[group] if not name.startswith("__")}
    observations = root.get(_OBSERVATIONS)
    if observations is not None and hasattr(observations, "keys"):
        index = str(observations.attrs.get("_index", ""))
        if index in observations:
            elements[_NAMES] = f"{_OBSERVATIONS}/{index}"
        columns = np.asarray(observations.attrs.get("column-order", ())).tolist()
        elements = {**{str(name): f"{_OBSERVATIONS}/{name}" for name in columns if name in observations}, **elements}
    return elements

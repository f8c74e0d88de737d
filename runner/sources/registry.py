"""The formats of data: one row each, with what others ask about it."""

import os
import re
import shlex
from dataclasses import dataclass

from runner.core.errors import InputError, RunnerError, UsageError
from runner.core.nearest import nearest_name
from runner.core.plugins import find_plugin
from runner.core.urls import is_url, without_query
from runner.sources.contents import beginning_of
from runner.sources.decompress import COMPRESSIONS, compression_of, without_compression


@dataclass(frozen=True)
class SourceFormat:
    """A format that data are read from.

    Attributes:
        reader: its class, or a function that chooses one, as `package.module:name`, made of a `DataSpec`.
        suffixes: of paths.
        first_bytes: beginnings of files, where several formats share a suffix; none for any.
        members: files, one of which is in every folder of this format.
        schemes: beginnings of URLs.
        extra: the extra of this project that installs its library; None where it needs none.
        is_folder: whether a path with its suffix is a folder.
        has_nulls: whether values may be null, which can be read as NaN.
        is_typed: whether the types of columns can be given.
        is_divided: whether the name after `::` is a part of it, with columns of its own.
        is_joined: whether a folder with such files in it or below is one data set.
        may_be_compressed: whether a file may be compressed as a whole, which a second suffix tells.
    """

    reader: str
    suffixes: tuple[str, ...] = ()
    first_bytes: tuple[bytes, ...] = ()
    members: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    extra: str | None = None
    is_folder: bool = False
    is_divided: bool = False
    is_joined: bool = False
    has_nulls: bool = False
    is_typed: bool = False
    may_be_compressed: bool = False

    def is_named_by(self, path: str) -> bool:
        """Return whether a path ends in a suffix of the format, and its file begins as such."""
        name = without_query(path).rstrip("/")
        is_named = (without_compression(name) if self.may_be_compressed else name).endswith(self.suffixes)
        return is_named and (not self.first_bytes or beginning_of(path).startswith(self.first_bytes))

    def is_marked_at(self, path: str) -> bool:
        """Return whether the scheme of a URL, or a file in a folder, tells this format, whatever the suffix."""
        return path.startswith(self.schemes) or any(os.path.exists(os.path.join(path, name)) for name in self.members)


REQUESTS = "runner.sources.tables.requests:open_json_lines"  # the reader of files that may hold such
SOURCE_FORMATS = (
    SourceFormat(
        "runner.sources.tables.database:DatabaseSource",
        schemes=("sqlite://", "postgresql://", "postgresql+", "mysql://", "mysql+"),
        extra="sql",
        is_divided=True,
        has_nulls=True,
    ),
    SourceFormat("runner.sources.shards:ShardSource", members=("index.json",)),
    SourceFormat(
        "runner.sources.tables.datasets_folder:DatasetsSource",
        members=("dataset_info.json", "dataset_dict.json"),
        extra="datasets",
        has_nulls=True,
        is_typed=True,
    ),
    SourceFormat(
        "runner.sources.tables.delta:DeltaSource",
        members=("_delta_log",),
        extra="delta",
        has_nulls=True,
        is_typed=True,
    ),
    SourceFormat("runner.sources.arrays.npy:NpySource", (".npy",)),
    SourceFormat("runner.sources.arrays.npz:NpzSource", (".npz",)),
    SourceFormat(
        "runner.sources.tables.parquet:ParquetSource",
        (".parquet", ".pq", ".parq"),
        extra="parquet",
        is_joined=True,
        has_nulls=True,
        is_typed=True,
    ),
    SourceFormat(
        "runner.sources.tables.arrow_file:ArrowFileSource",
        (".arrow", ".feather", ".ipc"),
        extra="parquet",
        has_nulls=True,
        is_typed=True,
    ),
    SourceFormat(
        "runner.sources.tables.csv:CsvSource",
        (".csv", ".tsv"),
        extra="parquet",
        has_nulls=True,
        is_typed=True,
        may_be_compressed=True,
    ),
    SourceFormat(
        REQUESTS,
        (".jsonl", ".ndjson"),
        extra="parquet",
        has_nulls=True,
        is_typed=True,
        may_be_compressed=True,
    ),
    SourceFormat("runner.sources.tables.lines:TextSource", (".txt",), may_be_compressed=True),
    SourceFormat(
        "runner.sources.sequences.fasta:FastaSource", (".fa", ".fasta", ".fna", ".faa"), may_be_compressed=True
    ),
    SourceFormat("runner.sources.sequences.fastq:FastqSource", (".fastq", ".fq"), may_be_compressed=True),
    SourceFormat("runner.sources.arrays.netcdf3:Netcdf3Source", (".nc", ".nc3", ".nc4"), (b"CDF",), extra="scipy"),
    SourceFormat("runner.sources.arrays.hdf5:Hdf5Source", (".h5", ".hdf5", ".nc", ".nc4", ".he5"), extra="hdf5"),
    SourceFormat("runner.sources.arrays.anndata:open_h5ad", (".h5ad",), extra="hdf5", has_nulls=True),
    SourceFormat(
        "runner.sources.arrays.fits:FitsSource",
        (".fits", ".fit", ".fts"),
        extra="fits",
        is_divided=True,
        has_nulls=True,
    ),
    SourceFormat("runner.sources.arrays.matlab:open_mat", (".mat",), extra="matlab"),
    SourceFormat("runner.sources.arrays.zarr:open_zarr", (".zarr",), extra="zarr", is_folder=True, has_nulls=True),
    SourceFormat(
        "runner.sources.tables.tfrecord:TFRecordSource",
        (".tfrecord", ".tfrecords"),
        extra="tfrecord",
        has_nulls=True,
        is_typed=True,
        may_be_compressed=True,
    ),
    SourceFormat("runner.sources.media.tar:TarSource", (".tar",), extra="images"),
)
DATASET_FUNCTION = SourceFormat("runner.sources.torch_dataset:TorchDatasetSource")
OBJECT = SourceFormat("")  # given from Python
MEDIA_FOLDER = SourceFormat("runner.sources.media.folder:open_folder", extra="images")  # any other folder

SUFFIXES = tuple(dict.fromkeys(suffix for row in SOURCE_FORMATS for suffix in row.suffixes))
FOLDER_SUFFIXES = tuple(suffix for row in SOURCE_FORMATS if row.is_folder for suffix in row.suffixes)
JOINED_SUFFIXES = tuple(suffix for row in SOURCE_FORMATS if row.is_joined for suffix in row.suffixes)

_COMPRESSED = ". Rows of compressed files cannot be read in place. Decompress it"
_IMAGES = ". For images, give the folder that holds them"
_HINTS = (
    (
        (".nii", ".nii.gz", ".dcm", ".root"),
        ". A class of yours of a few lines reads it, with __len__ and __getitem__: docs/data.md shows one",
    ),
    ((".pkl", ".pickle", ".joblib", ".pt", ".pth"), ". Save its rows with numpy.save: such a file can run code"),
    ((".gz", ".tgz"), f"{_COMPRESSED}: gunzip -k PATH"),
    ((".bz2",), f"{_COMPRESSED}: bunzip2 -k PATH"),
    ((".xz",), f"{_COMPRESSED}: unxz -k PATH"),
    ((".zst",), f"{_COMPRESSED}: unzstd PATH"),
    ((".lz4",), f"{_COMPRESSED}: unlz4 PATH"),
    ((".zip",), f"{_COMPRESSED}: unzip PATH"),
    ((".cdf",), ". If it is netCDF, rename it to end in .nc"),
    ((".hdf", ".h5md"), ". If it is HDF5, rename it to end in .h5"),
    (
        (".json",),
        ". If each line is an object, rename it to end in .jsonl; else write it so: pandas.DataFrame.to_json("
        "orient='records', lines=True)",
    ),
    ((".orc",), ". Write it to Parquet: pyarrow.parquet.write_table(pyarrow.orc.read_table(FILE), 'rows.parquet')"),
    ((".avro",), ". Write it to Parquet, such as with pyarrow.parquet.write_table"),
    ((".xls", ".xlsx", ".ods", ".sas7bdat", ".dta", ".sav", ".rds"), ". Write it to Parquet, such as with pandas"),
    ((".sqlite", ".sqlite3", ".db", ".duckdb"), ". For a table of SQLite, give sqlite:///FILE::TABLE"),
    ((".dat", ".data", ".tab"), ". For columns of text, rename it to end in .csv (commas) or .tsv (tabs)"),
)

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:function


def is_marked(path: str) -> bool:
    """Return whether the scheme of a URL, or a file in a folder, tells the format; such a path is no pattern."""
    return any(row.is_marked_at(path) for row in SOURCE_FORMATS)


def is_named(path: str) -> bool:
    """Return whether the suffix of a path tells the format."""
    return any(row.is_named_by(path) for row in SOURCE_FORMATS)


def is_compressed_text(path: str) -> bool:
    """Return whether a path is that of a file that is decompressed before its rows are read."""
    return bool(compression_of(path)) and is_named(path)


def is_function(path: str) -> bool:
    """Return whether a path is the name of a function, `package.module:function`, which makes a data set."""
    return _FUNCTION.fullmatch(path) is not None and not is_named(path) and not os.path.exists(path)


def find_source_format(path: str) -> SourceFormat:
    """Return the format of a path or URL, built in or of another package.

    Raises:
        InputError: there is no such file.
        UsageError: there is no such format; the message says which there are.
    """
    for row in SOURCE_FORMATS:
        if row.is_marked_at(path):  # before the suffix: an output that is a folder may be called p.npy
            return row
    for row in SOURCE_FORMATS:
        if row.is_named_by(path):
            return row
    if is_function(path):
        return DATASET_FUNCTION
    if plugin := find_plugin("sources", without_query(path)):
        suffix, reader = plugin
        return SourceFormat(reader, (suffix,))
    if os.path.isdir(path):
        return MEDIA_FOLDER
    raise _unknown(path)


def _unknown(path: str) -> RunnerError:
    """Return the error for a path of no known format."""
    from runner.sources.media.decode import SUFFIXES as IMAGE_SUFFIXES

    if not is_url(path) and not os.path.exists(path) and ":" not in path:
        folder = os.path.dirname(path) or "."
        near = nearest_name(os.path.basename(path), os.listdir(folder) if os.path.isdir(folder) else [])
        meant = f"; did you mean {os.path.join(os.path.dirname(path), near)}?" if near else ""
        return InputError(f"--data {path!r}: there is no such file or folder{meant}")
    hints = (*_HINTS, (SUFFIXES, ". Suffixes are in small letters: rename it"), (IMAGE_SUFFIXES, _IMAGES))
    hint = next((words for suffixes, words in hints if without_query(path).lower().endswith(tuple(suffixes))), "")
    hint = hint.replace("PATH", "FILE" if is_url(path) else shlex.quote(path))
    return UsageError(
        f"--data {path!r} must end in {' or '.join(SUFFIXES)} (text also with {' or '.join(COMPRESSIONS)} after it), "
        f"or be a folder, or package.module:function that gives a data set of PyTorch{hint}"
    )

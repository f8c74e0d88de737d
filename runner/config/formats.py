"""The formats of outputs: one row each, with what others ask about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.core.errors import UsageError
from runner.core.plugins import find_plugin

HIDDEN_INDEX = "_index.json"  # lists the files of an output that is a folder


@dataclass(frozen=True)
class OutputFormat:
    """A format that predictions are written in.

    Attributes:
        suffixes: of the names of outputs.
        writer: its class, as `package.module:name`; None where rows are put in place, in any order.
        extra: the extra of this project that installs its library; None where it needs none.
        is_folder: whether the output is a folder.
        index: the file in such a folder by which it is known to be an output.
        has_cells: whether it holds passthrough columns of any Arrow type, and null in them.
        bytes_per_second: of predictions that one core writes from the spool, as measured; None where there is no spool
            or nothing is known.
    """

    suffixes: tuple[str, ...]
    writer: str | None
    extra: str | None = None
    is_folder: bool = False
    index: str = HIDDEN_INDEX
    has_cells: bool = False
    bytes_per_second: float | None = None


OUTPUT_FORMATS = (
    OutputFormat((".npy",), None),
    OutputFormat(
        (".parquet",), "runner.sinks.parquet:ParquetWriter", extra="parquet", has_cells=True, bytes_per_second=6e7
    ),
    OutputFormat(
        (".feather",), "runner.sinks.feather:FeatherWriter", extra="parquet", has_cells=True, bytes_per_second=2e8
    ),
    OutputFormat((".csv", ".tsv"), "runner.sinks.csv:CsvWriter", extra="parquet", has_cells=True, bytes_per_second=4e7),
    OutputFormat(
        (".jsonl", ".ndjson"), "runner.sinks.jsonl:JsonLinesWriter", extra="jsonl", has_cells=True, bytes_per_second=4e7
    ),
    OutputFormat((".h5", ".hdf5"), "runner.sinks.hdf5:Hdf5Writer", extra="hdf5", bytes_per_second=4e8),
    OutputFormat((".nc",), "runner.sinks.netcdf:NetcdfWriter", extra="hdf5", bytes_per_second=4e8),
    OutputFormat(
        (".zarr",),
        "runner.sinks.zarr:ZarrWriter",
        extra="zarr",
        is_folder=True,
        index="zarr.json",
        bytes_per_second=4e7,
    ),
    OutputFormat((".png/",), "runner.sinks.files:PngWriter", extra="images", is_folder=True, bytes_per_second=2e7),
    OutputFormat((".npy/",), "runner.sinks.files:FilesWriter", is_folder=True, bytes_per_second=2e7),
)


def find_output_format(output: str) -> tuple[OutputFormat, str]:
    """Return the format of an output by its suffix, built in or of another package, and that suffix.

    Raises:
        UsageError: there is none; the message says which there are.
    """
    for known in OUTPUT_FORMATS:
        for suffix in known.suffixes:
            if output.endswith(suffix):
                return known, suffix
    if not output.endswith("/") and (plugin := find_plugin("sinks", output)):
        suffix, writer = plugin
        return OutputFormat((suffix,), writer), suffix
    allowed = [suffix for known in OUTPUT_FORMATS for suffix in known.suffixes]
    raise UsageError(f"--output {output!r} must end in {' or '.join(allowed)}")


def cells_of(output: str | None, columns: Sequence[str], keep: Sequence[str]) -> tuple[str, ...]:
    """Return the passthrough columns that an output holds as cells: those that the model does not get."""
    if output is None or not find_output_format(output)[0].has_cells:
        return ()
    return tuple(name for name in keep if name not in columns)

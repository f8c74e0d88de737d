"""`hvd-runner verify OUTPUT`: reads a finished output again and compares it with its manifest."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.chunks.grid import Grid
from runner.config.checks import split_type
from runner.config.formats import cells_of
from runner.core.errors import InputError
from runner.core.text import plural, row_range
from runner.core.urls import is_url
from runner.data.cell_types import CELLS
from runner.data.rows import Rows, rows_checksum, type_key
from runner.engine.reader import check_inputs
from runner.records.ledger import Ledger, run_folder
from runner.records.manifest import chunks_checksum
from runner.sinks import path_checksum
from runner.sources import ReadOptions, Source, open_source
from runner.sources.window import WindowSource


def verify(output: str, data: str | None = None) -> str:
    """Check every row of an output against the checksums recorded when it was computed.

    Args:
        output: the output.
        data: the data set, to be compared with the rows that the ranks read; None to leave it out.

    Returns:
        One line that says what was checked.

    Raises:
        InputError: the output is incomplete, or differs from what was computed; the message says where.
    """
    output = output.rstrip("/")
    if is_url(output):
        raise InputError(f"{output}: a file behind a URL is not read again; copy it beside its .run folder first")
    path = Path(output)
    folder = run_folder(output)
    if not path.exists():
        unfinished = Path(f"{output}.partial").exists()
        raise InputError(f"{output}: no such file{'; its job has not finished' if unfinished else ''}")
    manifest = _read_manifest(folder / "manifest.json")
    ledger = Ledger(folder)
    try:
        num_rows = manifest["num_rows"]
        file_checksum = manifest["file_checksum"]
        chunks = manifest["chunks"]
        chunks_sum = manifest["chunks_checksum"]
        run = manifest["run"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'manifest.json'} is damaged: {error!r}") from error
    if ledger.fingerprint != run or len(ledger.commits) != chunks or chunks_checksum(ledger) != chunks_sum:
        raise InputError(f"{ledger.path} is not the ledger that {folder / 'manifest.json'} certifies")

    read = None if file_checksum else _open(output, num_rows, run["row_type"])
    if read is None and path_checksum(output) != file_checksum:
        raise InputError(f"{output} is not what was written (checksum)")
    expected = 0
    for _, commit in sorted(ledger.commits.items()):
        if commit.start != expected:
            raise InputError(f"{ledger.path}: {row_range(expected, commit.start)} not accounted for")
        expected = commit.stop
        if read is not None and rows_checksum(read(commit.start, commit.stop)) != commit.checksum:
            raise InputError(f"{output}: {row_range(commit.start, commit.stop)} not what was computed (checksum)")
    if expected != num_rows:
        raise InputError(f"{ledger.path}: {row_range(expected, num_rows)} not accounted for")
    bad = sum(len(commit.bad) for commit in ledger.commits.values())
    aside = f"; {bad:,} of them bad: see {folder}/quarantine.jsonl" if bad else ""
    read_from = f"; {_compare_data(ledger, folder, data)}" if data is not None else ""
    return f"{output}: all {plural(num_rows, 'row')} present once, in order, as computed{aside}{read_from}"


def _compare_data(ledger: Ledger, folder: Path, data: str) -> str:
    """Read the data set again, and return what was compared.

    Raises:
        InputError: rows differ from those that the predictions were computed from.
    """
    options = _read_options(folder / "config.toml")
    columns, keep = options.get("columns", ()), options.get("keep", ())
    run = ledger.fingerprint
    assert run is not None
    has_cells = CELLS in run.get("row_type", "")  # runs of earlier versions have none
    cells = cells_of(options.get("output"), columns, keep) if has_cells else ()
    types = dict(split_type(pair) for pair in options.get("types", ()))
    reading = ReadOptions(cells, options.get("null") == "nan", types, options.get("data-args", {}))
    source: Source = open_source(data, columns, keep, options=reading)
    source = WindowSource(source, options.get("skip", 0), options.get("limit"))
    if source.num_rows != run["num_rows"]:
        raise InputError(f"--data {data} has {plural(source.num_rows, 'row')}; the job read {run['num_rows']:,}")
    grid = Grid(source.num_rows, run["batch_size"], run["chunk_size"])
    compared = [commit for commit in ledger.commits.values() if commit.inputs]
    check_inputs(source, grid, [(commit.chunk, commit.inputs) for commit in compared])
    rows = sum(commit.stop - commit.start for commit in compared)
    others = source.num_rows - rows
    besides = f"; {plural(others, 'row')} in chunks with unreadable ones not compared" if others else ""
    return f"computed from the {plural(rows, 'row')} of {data}{besides}"


def _read_options(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _open(output: str, num_rows: int, row_type: str) -> Callable[[int, int], Rows]:
    """Return a function that reads rows of an output; raise InputError where their number or type is wrong."""
    source = open_source(output)
    held_type = type_key(source.row_type)
    if (source.num_rows, held_type) != (num_rows, row_type):
        raise InputError(
            f"{output} holds {plural(source.num_rows, 'row')} of {held_type}; the job computed {num_rows:,} of "
            f"{row_type}"
        )
    return source.read


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: without it the output cannot be verified") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path} is damaged: it is not an object")
    return manifest

"""Rows of unlike lengths, from Parquet: put in order by length inside a chunk, given back in the order of the rows."""

import functools
import itertools
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import zoo
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run, run_here

from runner.chunks.grid import Chunk, Grid
from runner.comm.single import SingleComm
from runner.config.options import make_config
from runner.core.errors import InputError
from runner.data.rows import RAGGED, Ragged, RowType, concatenate, take
from runner.data.tensors import as_batch, pad
from runner.engine.reader import BatchReader
from runner.job.dataset import open_dataset
from runner.job.model import load_model
from runner.job.session import quiet_session
from runner.sources import open_source

NUM_ROWS, BATCH_SIZE, CHUNK_SIZE = 997, 8, 64


def make_tokens(num_rows: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(2.5, 0.8, num_rows), 1, 120).astype(int)
    return [rng.integers(1, 100, length).tolist() for length in lengths]


def write(path: Path, tokens: list[list[int]], row_group: int = 100) -> None:
    table = pa.table({"tokens": pa.array(tokens, pa.list_(pa.int64())), "id": np.arange(len(tokens))})
    pa.parquet.write_table(table, path, row_group_size=row_group)


def cut_by_hand(rows: list[int], lengths: list[int], batch_size: int) -> list[list[int]]:
    """The cut that takes the least time, found by trying all sizes of the first batch, the largest first."""
    call = max(64.0, sum(lengths) / len(lengths))

    @functools.cache
    def best(first: int) -> tuple[float, tuple[int, ...]]:
        sizes = range(min(batch_size, len(rows) - first), 0, -1)
        tried = [(call + size * lengths[first] + best(first + size)[0], size) for size in sizes]
        if not tried:
            return 0.0, ()
        cost, size = min(tried, key=lambda found: found[0])
        return cost, (size, *best(first + size)[1])

    cuts = [0, *itertools.accumulate(best(0)[1])]
    return [rows[first:last] for first, last in itertools.pairwise(cuts)]


def by_hand(tokens: list[list[int]], batch_size: int, chunk_size: int) -> np.ndarray:
    """What must come out: the same order and cuts inside each chunk, by a loop of its own."""
    torch.set_num_threads(1)
    model = zoo.Tokens().eval()
    predictions = np.empty((len(tokens), 6), np.float32)
    for start in range(0, len(tokens), chunk_size):
        chunk = sorted(range(start, min(start + chunk_size, len(tokens))), key=lambda row: -len(tokens[row]))
        for ids in cut_by_hand(chunk, [len(tokens[row]) for row in chunk], batch_size):
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(tokens[row]) for row in ids], batch_first=True)
            with torch.inference_mode():
                predictions[ids] = model(padded, padded > 0).numpy()
    return predictions


def predict(folder: Path, *more: str, launcher: str = "here") -> Outcome:
    options = ["--model", "zoo:Tokens", "--data", "d.parquet::tokens", "--output", "p.npy"]
    options += ["--batch-size", str(BATCH_SIZE), "--chunk-size", str(CHUNK_SIZE), *more]
    if launcher == "here":
        return predict_here(*options, folder=folder)
    return run(predict_command(*options, launcher=LAUNCHERS[launcher]), folder)


@pytest.mark.parametrize(
    ("launcher", "options"),
    [("here", []), ("mpirun-3", []), ("horovodrun-2", ["--schedule", "dynamic", "--collect", "direct"])],
)
def test_bytes_equal_a_loop_by_hand(launcher: str, options: list[str], tmp_path: Path) -> None:
    tokens = make_tokens(NUM_ROWS)
    write(tmp_path / "d.parquet", tokens)
    outcome = predict(tmp_path, *options, launcher=launcher)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == by_hand(tokens, BATCH_SIZE, CHUNK_SIZE).tobytes()
    verified = run_here("verify", "p.npy", "--data", "d.parquet::tokens", folder=tmp_path)
    assert verified.code == 0
    assert f"computed from the {NUM_ROWS:,} rows of d.parquet::tokens" in verified.output


def test_a_row_alone_gives_the_same(tmp_path: Path) -> None:
    """Padding does not matter to this model but for rounding."""
    tokens = make_tokens(97)
    assert np.allclose(by_hand(tokens, 1, 1), by_hand(tokens, 8, 64), atol=1e-5)


@pytest.mark.parametrize("num_rows", [0, 1, 7])
def test_few_rows(num_rows: int, tmp_path: Path) -> None:
    tokens = make_tokens(num_rows)
    write(tmp_path / "d.parquet", tokens)
    assert predict(tmp_path, launcher="here" if num_rows == 7 else "mpirun-2").code == 0
    assert np.load(tmp_path / "p.npy").tobytes() == by_hand(tokens, BATCH_SIZE, CHUNK_SIZE).tobytes()


def test_bad_rows_are_found_by_their_numbers(tmp_path: Path) -> None:
    tokens = make_tokens(NUM_ROWS)
    bad = [3, 70, 500, 501, 996]
    for row in bad:
        tokens[row][-1] = 666  # outside the vocabulary
    write(tmp_path / "d.parquet", tokens)
    outcome = predict(tmp_path)
    assert outcome.code == 65, outcome.output
    assert "the model failed on row 3: IndexError" in outcome.output
    outcome = predict(tmp_path, "--on-error", "quarantine", launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    lines = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == bad
    predictions = np.load(tmp_path / "p.npy")
    assert np.isnan(predictions[bad]).all()
    good = np.setdiff1d(np.arange(NUM_ROWS), bad)
    assert np.allclose(predictions[good], by_hand(make_tokens(NUM_ROWS), BATCH_SIZE, CHUNK_SIZE)[good], atol=1e-5)


def test_a_changed_row_is_found_at_the_resume(tmp_path: Path) -> None:
    tokens = make_tokens(NUM_ROWS)
    write(tmp_path / "d.parquet", tokens)
    slowly = ["--model", "zoo:TokensDieOnce", "--model-args", json.dumps({"calls": 60, "flag": "flag"})]
    (tmp_path / "flag").touch()
    assert predict(tmp_path, *slowly, launcher="alone").code != 0
    write(tmp_path / "d.parquet", tokens)  # the same once more
    assert predict(tmp_path, *slowly, "--time-limit", "1").code == 75
    first, second = tokens[5][0], tokens[5][1:2]
    tokens[5][0] = first % 98 + 1  # within what the footer says of the column
    assert second
    write(tmp_path / "d.parquet", tokens)
    outcome = predict(tmp_path, *slowly)
    assert outcome.code == 65, outcome.output
    assert "is not what the predictions were computed from: rows 0 to 63 differ" in outcome.output


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_numbers_and_lists_of_one_length(compression: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((250, 3), dtype=np.float32)
    table = pa.table(
        {
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 3),
            "score": pa.array(vectors[:, 0].astype(np.float64)),
            "big": pa.array([list(range(i % 4)) for i in range(250)], pa.large_list(pa.int32())),
        }
    )
    path = str(tmp_path / "d.parquet")
    pa.parquet.write_table(table, path, row_group_size=40, compression=compression)
    source = open_source(f"{path}::vector")
    assert (source.num_rows, source.row_type) == (250, RowType((3,), np.dtype(np.float32)))
    assert np.array_equal(source.read(35, 130), vectors[35:130])
    source = open_source(f"{path}::score")
    assert source.row_type == RowType((), np.dtype(np.float64))
    assert np.array_equal(source.read(249, 250), vectors[249:, 0].astype(np.float64))
    source = open_source(f"{path}::big")
    assert source.row_type == RowType(RAGGED, np.dtype(np.int32))
    assert source.read(38, 43).lengths.tolist() == [2, 3, 0, 1, 2]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    with pytest.raises(InputError, match="No such file"):
        open_source(str(path))
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"d\.parquet: "):
        open_source(str(path))
    pa.parquet.write_table(
        pa.table({"a": ["x", "y"], "b": [1, None], "c": [[1], [None]], "d e": [date(2026, 1, 1)] * 2}), path
    )
    with pytest.raises(InputError, match="has no column 'd'; it has a, b, c, d e"):
        open_source(f"{path}::d")
    with pytest.raises(InputError, match="column 'd e' is of type date32"):
        open_source(str(path))
    with pytest.raises(InputError, match="row 1 of column 'b' is null"):
        open_source(f"{path}::b").read(0, 2)
    with pytest.raises(InputError, match=r"a value of column 'c' in rows 0 to 1 is null"):
        open_source(f"{path}::c").read(0, 2)


def reader_of(data: str, grid: Grid, **options: Any) -> BatchReader:
    """As a job would make it."""
    config = make_config({"model": zoo.Tokens, "data": data, "batch_size": grid.batch_size, **options})
    session = quiet_session(config, SingleComm(), torch.device("cpu"))
    source = open_dataset(session)
    return BatchReader(source, grid, load_model(session, source).predictor.batching)


def test_batches_are_in_order_of_length_and_hold_every_row_once(tmp_path: Path) -> None:
    tokens = make_tokens(300)
    write(tmp_path / "d.parquet", tokens)
    grid = Grid(300, 8, 64)
    reader = reader_of(f"{tmp_path}/d.parquet::tokens", grid)
    for index in range(grid.num_chunks):
        chunk: Chunk = grid.chunk(index)
        seen: list[int] = []
        for first, last in grid.batches(chunk):
            for ids, rows, _ in reader.read(chunk, first, last):
                assert isinstance(rows, Ragged)
                assert [tensor.tolist() for tensor in as_batch(rows)] == [tokens[row] for row in ids]
                assert len(ids) <= 8
                seen += ids
            assert len(seen) <= last - chunk.start
        assert sorted(seen) == list(range(chunk.start, chunk.stop))
        assert [len(tokens[row]) for row in seen] == sorted((len(tokens[row]) for row in seen), reverse=True)


def test_the_length_of_what_is_only_kept_does_not_matter(tmp_path: Path) -> None:
    table = pa.table({"id": ["x" * (i % 9) for i in range(50)], "value": np.arange(50.0)})
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    grid = Grid(50, 8, 16)
    ((ids, _, _),) = reader_of(f"{tmp_path}/d.parquet", grid, keep=("id",)).read(grid.chunk(1), 16, 24)
    assert list(ids) == list(range(16, 24))
    reader = reader_of(f"{tmp_path}/d.parquet", grid)
    assert list(reader.read(grid.chunk(1), 16, 24)[0][0]) != list(range(16, 24))


def test_rows_in_memory() -> None:
    rows = Ragged(np.arange(6), np.array([0, 2, 2, 6]))
    assert [row.tolist() for row in as_batch(take(rows, [2, 0]))] == [[2, 3, 4, 5], [0, 1]]
    assert concatenate([rows, rows]).lengths.tolist() == [2, 0, 4, 2, 0, 4]
    padded, mask = pad(as_batch(rows))
    assert padded.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [2, 3, 4, 5]]
    assert mask.sum(dim=1).tolist() == [2, 0, 4]

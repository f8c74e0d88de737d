"""How rows are put into batches: by padded tokens or cost within a budget, and for the least time."""

import itertools
import json
from pathlib import Path
from typing import Any

import forces
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import LAUNCHERS, PROGRAMS, predict_here, python, run
from transformer_folders import SMALL, save, save_tokenizer, sentences

import runner
from runner.chunks.grid import Grid
from runner.comm.single import SingleComm
from runner.config.options import make_config
from runner.engine.cuts import cut_by_cost, cut_by_length
from runner.engine.probing import probe
from runner.engine.reader import BatchReader
from runner.job.dataset import open_dataset
from runner.job.model import load_model
from runner.job.session import quiet_session

NUM_ROWS = 83
TEXTS = sentences(5, NUM_ROWS)


def write_data(folder: Path) -> list[list[int]]:
    rng = np.random.default_rng(0)
    tokens = [rng.integers(1, 90, int(length)).tolist() for length in rng.integers(1, 40, NUM_ROWS)]
    tokens[30] = tokens[30] * 20  # over every budget
    pa.parquet.write_table(pa.table({"tokens": tokens}), folder / "tokens.parquet", row_group_size=30)
    rows = np.abs(rng.normal(0, 10, (NUM_ROWS, 3))).round().astype(np.float32)
    rows[41] *= 50
    np.save(folder / "rows.npy", rows)
    graphs = [{"positions": rng.random((int(size), 3)).tolist()} for size in rng.integers(2, 9, NUM_ROWS)]
    lines = [json.dumps(graph) if row != 7 else "no JSON" for row, graph in enumerate(graphs)]
    (folder / "graphs.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "d.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    bad = [f"{text} poison" if row in (3, 60) else text for row, text in enumerate(TEXTS)]
    (folder / "bad.txt").write_text("".join(f"{text}\n" for text in bad))
    raw = [b"\xff\xfe no UTF-8" if row == 20 else text.encode() for row, text in enumerate(TEXTS)]
    (folder / "raw.txt").write_bytes(b"".join(text + b"\n" for text in raw))
    return tokens


def make_jobs(folder: Path) -> dict[str, dict[str, Any]]:
    tokens = {"model": "batches:Tells", "data": f"{folder}/tokens.parquet::tokens"}
    rows = {"model": "batches:TellsSums", "data": f"{folder}/rows.npy", "batch_cost": "batches:sums"}
    text = {"model": f"{folder}/model", "data": f"{folder}/d.txt", "batch_size": 8, "chunk_size": 32}
    bad = {**text, "data": f"{folder}/bad.txt", "preprocess": "texts:not_poison", "on_error": "quarantine"}
    jobs: dict[str, dict[str, Any]] = {
        "lists": {**tokens, "batch_tokens": 100, "batch_size": 16, "chunk_size": 32},
        "lists by a cost of theirs": {**tokens, "batch_cost": "batches:lengths", "batch_budget": 80, "batch_size": 8},
        "rows by cost": {**rows, "batch_budget": 200, "batch_size": 16},
        "text": {**text, "batch_tokens": 64},
        "text as it comes": text,
        "prompts": {**text, "preprocess": "texts:asked", "batch_tokens": 64},
        "bad prompts": {**bad, "batch_tokens": 64},
        "graphs": {
            **{"model": "forces:Springs", "data": f"{folder}/graphs.txt", "preprocess": "forces:to_graphs"},
            **{
                "batch_cost": "batches:atoms",
                "batch_budget": 20,
                "on_error": "quarantine",
                "postprocess": "forces:of_energy",
            },
        },
        "not UTF-8": {**text, "data": f"{folder}/raw.txt", "on_error": "quarantine"},
    }
    return jobs


def options_of(folder: Path, options: dict[str, Any], name: str) -> dict[str, Any]:
    told = {"model_args": {"path": f"{folder}/{name}.told"}} if "batches:" in options["model"] else {}
    return {"output": f"{folder}/{name}.npy", "threads": 1, **told, **options}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all jobs have run, on one rank and on two."""
    folder = tmp_path_factory.mktemp("batches")
    write_data(folder)
    save(folder, "BertModel", vocab_size=100, **SMALL)
    save_tokenizer(folder, pad_token="[PAD]")
    jobs = make_jobs(folder)
    several = [options_of(folder, options, f"{name}-2") for name, options in jobs.items()]
    (folder / "jobs.json").write_text(json.dumps(several))
    outcome = run([*LAUNCHERS["mpirun-2"], *python(), PROGRAMS / "several.py", folder / "jobs.json"], folder)
    assert outcome.code == 0, outcome.output
    (folder / "said").write_text(outcome.output)
    for name, options in jobs.items():
        runner.predict(**options_of(folder, options, f"{name}-1"))
    return folder


def test_bytes_do_not_depend_on_the_ranks(folder: Path) -> None:
    jobs = make_jobs(folder)
    assert len(jobs) == 9
    differing = [
        name for name in jobs if (folder / f"{name}-1.npy").read_bytes() != (folder / f"{name}-2.npy").read_bytes()
    ]
    assert differing == []


def told(folder: Path, name: str) -> list[list[int]]:
    """The batches of the work that the model saw: not the first row, alone, nor the canary before and after it."""
    lines = [json.loads(line) for line in (folder / f"{name}.told").read_text().splitlines()][:-1]
    rows = 0
    for position in range(len(lines), 0, -1):
        rows += lines[position - 1][0]
        if rows == NUM_ROWS:
            return lines[position - 1 :]
    raise AssertionError(lines)


def test_no_batch_has_more_tokens_than_allowed(folder: Path) -> None:
    tokens = write_data(folder)
    assert np.load(folder / "lists-1.npy").tolist() == [sum(row) for row in tokens]
    batches = told(folder, "lists-1")
    over = [batch for batch in batches if batch[0] * batch[1] > 100]
    assert over == [[1, len(tokens[30])]]
    assert max(rows for rows, _ in batches) > 4
    assert "row 30 alone has" in (folder / "said").read_text()


def test_no_batch_costs_more_than_allowed(folder: Path) -> None:
    rows = np.load(folder / "rows.npy")
    assert np.allclose(np.load(folder / "rows by cost-1.npy"), rows.sum(axis=1))
    batches = told(folder, "rows by cost-1")
    over = [batch for batch in batches if batch[1] > 200]
    assert over == [[1, round(float(rows[41].sum()))]]
    assert len(batches) < NUM_ROWS / 3
    said = (folder / "said").read_text()
    assert f"row 41 alone costs {rows[41].sum():g}, more than --batch-budget 200" in said
    tokens = write_data(folder)
    assert np.load(folder / "lists by a cost of theirs-1.npy").tolist() == [sum(row) for row in tokens]


@pytest.mark.parametrize("name", ["text", "prompts"])
def test_texts_are_counted_in_tokens(name: str, folder: Path) -> None:
    """As the model gets them: after --preprocess, and with what the tokenizer adds."""
    comm = SingleComm()
    config = make_config(options_of(folder, make_jobs(folder)[name], "here"))
    session = quiet_session(config, comm, torch.device("cpu"))
    source = open_dataset(session)
    predictor = load_model(session, source).predictor
    probe(comm, predictor, source, 1)
    grid = Grid(NUM_ROWS, 8, 32)
    reader, sizes = BatchReader(source, grid, predictor.batching), []
    for index in range(grid.num_chunks):
        for first, last in grid.batches(grid.chunk(index)):
            for ids, rows, _ in reader.read(grid.chunk(index), first, last):
                assert not isinstance(rows, Exception)
                shape = tuple(predictor.prepare(rows, ids).inputs.named["input_ids"].shape)
                assert shape[0] == len(ids)
                sizes.append(shape)
    assert sum(rows for rows, _ in sizes) == NUM_ROWS
    assert max(rows * longest for rows, longest in sizes) <= 64
    assert max(rows for rows, _ in sizes) > 2


def test_bad_rows_of_a_chunk_are_found(folder: Path) -> None:
    expected = {"bad prompts": [3, 60], "not UTF-8": [20]}
    whole = np.load(folder / "text as it comes-1.npy")
    assert np.allclose(np.load(folder / "text-1.npy"), whole, atol=1e-5)
    for name, bad in expected.items():
        lines = (folder / f"{name}-1.npy.run/quarantine.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == bad
        good = np.setdiff1d(np.arange(NUM_ROWS), bad)
        assert np.allclose(np.load(folder / f"{name}-1.npy")[good], whole[good], atol=1e-5)


def test_a_row_without_a_cost_is_alone(folder: Path) -> None:
    lines = (folder / "graphs-1.npy.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [7]
    assert "JSONDecodeError" in lines[0]
    energies = np.load(folder / "graphs-1.npy")
    model = forces.Springs()
    for row, line in enumerate((folder / "graphs.txt").read_text().splitlines()):
        if row != 7:
            assert np.allclose(energies[row], model(**forces.to_graphs([line]))["energy"].item(), rtol=1e-5)


TOKENS = ["--model", "batches:Tells", "--data", "tokens.parquet::tokens", "--model-args", '{"path": "told"}']
ROWS = ["--model", "batches:TellsSums", "--data", "rows.npy", "--model-args", '{"path": "told"}']
BUDGET = ["--batch-budget", "10"]
REFUSED: dict[str, tuple[int, str, list[str]]] = {
    "rows of one length": (64, "the rows of the data have one length", [*ROWS, "--batch-tokens", "10"]),
    "no tokenizer": (64, "has none that counts", ["--model", "texts:Counts", "--data", "d.txt", "--batch-tokens", "9"]),
    "no text": (
        64,
        "--batch-tokens 9 applies to texts for a model's tokenizer, and the model gets none",
        ["--model", "./model", "--data", "d.txt", "--preprocess", "texts:as_numbers", "--batch-tokens", "9"],
    ),
    "no budget": (64, "must be given together", [*TOKENS, "--batch-cost", "batches:lengths"]),
    "no cost": (64, "must be given together", [*TOKENS, *BUDGET]),
    "both": (64, "cannot be combined", [*TOKENS, *BUDGET, "--batch-cost", "batches:lengths", "--batch-tokens", "9"]),
    "no number": (64, "--batch-tokens", [*TOKENS, "--batch-tokens", "0"]),
    "no such cost": (65, "--batch-cost", [*ROWS, *BUDGET, "--batch-cost", "batches:nothing"]),
    "too few costs": (65, "gave shape (2,) for rows 0 to ", [*ROWS, *BUDGET, "--batch-cost", "batches:of_one_row"]),
    "below 0": (65, "none below 0", [*ROWS, *BUDGET, "--batch-cost", "batches:below_nothing"]),
    "it fails": (65, "KeyError: 'atoms'", [*ROWS, *BUDGET, "--batch-cost", "batches:fails"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, folder: Path) -> None:
    code, message, options = REFUSED[case]
    outcome = predict_here(*options, "--output", "no.npy", "--fresh", folder=folder)
    assert outcome.code == code, outcome.output
    assert message in outcome.output
    assert outcome.output.count("runner: error") == 1
    assert not (folder / "no.npy").exists()


def cost_of(cuts: list[int], lengths: list[int], call: float) -> float:
    bounds = itertools.pairwise([*cuts, len(lengths)])
    return sum(call + lengths[first] * (last - first) for first, last in bounds)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=9),
    st.integers(1, 5),
    st.integers(0, 60),
    st.none() | st.integers(1, 120),
)
def test_no_other_cut_takes_less_time(lengths: list[int], batch_size: int, call: int, most: int | None) -> None:
    lengths.sort(reverse=True)
    found = cut_by_length(np.array(lengths), batch_size, call, most)
    allowed = []
    for places in itertools.product((False, True), repeat=len(lengths) - 1):
        cuts = [0, *(position + 1 for position, is_cut in enumerate(places) if is_cut)]
        batches = list(itertools.pairwise([*cuts, len(lengths)]))
        is_small = all(b - a == 1 or most is None or lengths[a] * (b - a) <= most for a, b in batches)
        if is_small and all(b - a <= batch_size for a, b in batches):
            allowed.append(cuts)
    assert found in allowed
    assert cost_of(found, lengths, call) == min(cost_of(cuts, lengths, call) for cuts in allowed)


def test_rows_alike_are_cut_as_the_grid_is() -> None:
    assert cut_by_length(np.full(20, 7), 8, 64.0) == [0, 8, 16]
    assert cut_by_length(np.empty(0, np.int64), 8, 64.0) == []
    assert cut_by_cost(np.array([3.0, 3, 3, 9, 1, 0, 0, 0]), 3, 6) == [0, 2, 3, 4, 7]

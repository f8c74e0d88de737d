"""Models that ranks hold together: what one rank alone gives, in the memory of a part each."""

import json
from pathlib import Path

import numpy as np
import pytest
import split
import torch
from launch import PROGRAMS, horovodrun, mpirun, predict_command, python, run
from reference import random_rows
from safetensors.torch import save_model

import runner
from runner.comm.groups import Groups

NUM_ROWS, BATCH_SIZE = 403, 10
JOB = ["--model", "split:Stack", "--data", "d.npy", "--batch-size", str(BATCH_SIZE), "--chunk-size", "20"]
SPLIT = ["--parallel-plan", "split:plan", "--model-parallel"]


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray:
    rows = random_rows(NUM_ROWS, split.WIDTH)
    rows[:, 0] = np.arange(NUM_ROWS)
    np.save(tmp_path / "d.npy", rows)
    return rows


def expected(rows: np.ndarray, **arguments: object) -> np.ndarray:
    with torch.inference_mode():
        return split.Stack(**arguments).eval()(torch.from_numpy(rows)).numpy()


def predict(folder: Path, output: str, *options: str, launcher: list[str], timeout: float = 90) -> np.ndarray:
    outcome = run(predict_command(*JOB, "--output", output, *options, launcher=launcher), folder, timeout=timeout)
    assert outcome.code == 0, outcome.output
    return np.load(folder / output)


def test_groups() -> None:
    groups = Groups(world_size=6, size=2)
    assert groups.num_groups == 3
    assert [groups.group(rank) for rank in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [groups.place(rank) for rank in range(6)] == [0, 1, 0, 1, 0, 1]


def test_the_answers_are_those_of_the_whole_model(rows: np.ndarray, tmp_path: Path) -> None:
    model = split.Stack(tied=True)
    save_model(model, tmp_path / "w.safetensors")
    options = ["--weights", "w.safetensors", "--model-args", '{"tied": true}', *SPLIT]
    found = {
        "1 group of 2": predict(tmp_path, "a.npy", *options, "2", launcher=mpirun(2)),
        "2 groups of 2": predict(tmp_path, "b.npy", *options, "2", "--schedule", "dynamic", launcher=horovodrun(4)),
        "1 group of 4": predict(tmp_path, "c.npy", *options, "4", "--comm", "mpi", launcher=mpirun(4)),
    }
    for name, predictions in found.items():
        assert np.allclose(predictions, expected(rows, tied=True), atol=1e-5), name
    assert found["1 group of 2"].tobytes() == found["2 groups of 2"].tobytes()
    report = json.loads((tmp_path / "b.npy.run/report.json").read_text())
    assert report["world_size"] == len(report["ranks"]) == 4
    assert [rank["rows"] > 0 for rank in report["ranks"]] == [True, False, True, False]
    assert all(rank["seconds"]["forward"] > 0 for rank in report["ranks"])
    fingerprint = json.loads((tmp_path / "b.npy.run/ledger.jsonl").read_text().splitlines()[0])
    assert fingerprint["model_parallel"] == 2


@pytest.mark.parametrize("victim", [0, 3])
def test_a_group_dies_and_another_number_of_groups_goes_on(victim: int, rows: np.ndarray, tmp_path: Path) -> None:
    undisturbed = predict(tmp_path, "whole.npy", *SPLIT, "2", launcher=mpirun(2))
    (tmp_path / "flag").touch()
    arguments = ["--model-args", json.dumps({"deadly": 301.0, "victim": victim, "hold": 0.02})]
    # rows 301 and following are those of the second group, so a victim of the first lives
    arguments[1] = arguments[1].replace("301.0", "101.0") if victim == 0 else arguments[1]
    command = predict_command(*JOB, "--output", "p.npy", *SPLIT, "2", *arguments, launcher=mpirun(4))
    assert run(command, tmp_path).code != 0
    assert not (tmp_path / "flag").exists()
    assert not (tmp_path / "p.npy").exists()
    resumed = predict(tmp_path, "p.npy", *SPLIT, "2", *arguments, launcher=mpirun(2))
    assert resumed.tobytes() == undisturbed.tobytes()
    assert json.loads((tmp_path / "p.npy.run/report.json").read_text())["resumed_rows"] > 0


def test_bad_rows_are_set_aside_by_the_group(rows: np.ndarray, tmp_path: Path) -> None:
    bad = ["--model-args", '{"bad": 55.0}', "--on-error", "quarantine"]
    found = predict(tmp_path, "p.npy", *SPLIT, "2", *bad, launcher=mpirun(2))
    assert np.isnan(found[55]).all()
    others = np.arange(NUM_ROWS) != 55
    assert np.allclose(found[others], expected(rows)[others], atol=1e-5)


@pytest.mark.parametrize(
    ("ranks", "options", "code", "says"),
    [
        (3, [*SPLIT, "2"], 64, "--model-parallel 2 does not divide the 3 ranks of this job; use a multiple of 2"),
        (2, ["--model-parallel", "2"], 64, "--model-parallel needs --parallel-plan module:function"),
        (2, ["--model-parallel", "2", "--parallel-plan", "split:broken_plan"], 65, "raised KeyError: 'layers'"),
        (
            2,
            ["--model-parallel", "2", "--parallel-plan", "split:plan_of_what_is_not_there"],
            65,
            "the parallel plan names 'middle.*', which the model does not have; it has up, up.0, ",
        ),
        (3, [*SPLIT, "3"], 65, "the plan splits the 256 of up.0.weight (256, 64), which 3 ranks do not divide"),
        (2, [*SPLIT, "2", "--share-weights"], 64, "--model-parallel and --share-weights cannot be combined"),
        (2, [*SPLIT, "2", "--model", "some.onnx"], 64, "--model-parallel cannot split some.onnx"),
        (2, [*SPLIT, "2", "--model-args", '{"bad": 55.0}'], 65, "a row that this model does not take"),
    ],
)
def test_what_cannot_be(ranks: int, options: list[str], code: int, says: str, rows: np.ndarray, tmp_path: Path) -> None:
    outcome = run(predict_command(*JOB, "--output", "p.npy", *options, launcher=mpirun(ranks)), tmp_path)
    assert outcome.code == code, outcome.output
    assert says in outcome.output
    assert outcome.output.count("runner: error") == 1, outcome.output


def test_each_rank_has_the_memory_of_its_part(tmp_path: Path) -> None:
    width, pairs = 1024, 8
    model = split.Stack(pairs, width)
    save_model(model, tmp_path / "w.safetensors")
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    del model
    np.save(tmp_path / "d.npy", random_rows(20, width))
    options = ["--weights", "w.safetensors", "--model-args", json.dumps({"width": width, "pairs": pairs})]
    peaks = {}
    for size in (1, 2, 4):
        more = [*SPLIT, str(size)] if size > 1 else []
        predict(tmp_path, f"{size}.npy", *options, *more, launcher=mpirun(size) if size > 1 else [])
        peaks[size] = json.loads((tmp_path / f"{size}.npy.run/report.json").read_text())["peak_rss_bytes"]
    parts = {size: (max(peaks[size][1:]) - min(peaks[4])) / model_bytes for size in (2, 4)}
    assert abs(parts[2] - 0.25) < 0.15, (peaks, model_bytes)  # a half less a quarter


def test_hugging_face_models_bring_their_plans(tmp_path: Path) -> None:
    """Embeddings tied or not, scaled by a buffer (Gemma), norms that each rank holds whole (Qwen3)."""
    np.save(tmp_path / "d.npy", np.random.default_rng(0).integers(3, 200, (30, 7)))
    jobs = []
    for name, family, settings in (
        ("llama", "Llama", {"tie_word_embeddings": False}),
        ("tied", "Llama", {"tie_word_embeddings": True}),
        ("gemma", "Gemma", {"head_dim": 16}),
        ("qwen", "Qwen3", {"head_dim": 16}),
    ):
        split.causal_model(tmp_path / name, family, **settings)
        job = {"model": f"{tmp_path / name}/", "model_args": {"max_new_tokens": 5}, "data": f"{tmp_path}/d.npy"}
        runner.predict(**job, output=tmp_path / f"{name}-1.npy", batch_size=8, threads=1)
        jobs.append({**job, "output": f"{tmp_path}/{name}-2.npy", "batch_size": 8, "model_parallel": 2})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    outcome = run([*mpirun(2), *python(), PROGRAMS / "several.py", tmp_path / "jobs.json"], tmp_path)
    assert outcome.code == 0, outcome.output
    for name in ("llama", "tied", "gemma", "qwen"):
        alone = np.load(tmp_path / f"{name}-1.npy")
        assert alone.shape == (30, 5)
        assert len(np.unique(alone)) > 5, name
        assert np.array_equal(alone, np.load(tmp_path / f"{name}-2.npy")), name


def test_hugging_face_models_that_cannot_be_split(tmp_path: Path) -> None:
    import transformers

    split.causal_model(tmp_path / "llama")
    small = transformers.GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=50)
    transformers.GPT2LMHeadModel(small).save_pretrained(tmp_path / "gpt2")
    np.save(tmp_path / "d.npy", np.zeros((3, 4), np.int64))
    for model, ranks, says in (
        ("./llama", 4, "has 2 num_key_value_heads, which cannot be split over 4 ranks"),
        ("./gpt2", 2, "Transformers brings no tensor-parallel plan for GPT2LMHeadModel; write one"),
    ):
        options = ["--model", model, "--model-args", '{"max_new_tokens": 5}', "--model-parallel", str(ranks)]
        outcome = run(predict_command(*JOB, *options, "--output", "p.npy", launcher=mpirun(ranks)), tmp_path)
        assert outcome.code == 65, outcome.output
        assert says in outcome.output

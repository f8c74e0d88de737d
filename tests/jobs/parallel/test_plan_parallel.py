"""`plan` and `doctor` for models that several ranks hold: the bytes that plan says are those that ranks then hold."""

import json
import os
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
import split
from launch import mpirun, predict_command, python, run
from plan_text import fact, number
from reference import random_rows

from runner.cli.main import main
from runner.core.text import rate

LAYERS = """
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, rows):
        return rows + self.down(self.up(rows).relu())

def build() -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(4)), nn.Linear(64, 3))

def plan(model: nn.Module) -> dict:
    return {"*.up": ColwiseParallel(), "*.down": RowwiseParallel()}
"""
NUM_ROWS, BATCH_SIZE = 97, 8
SPLIT = ["--parallel-plan", "split:plan", "--model-parallel"]
HUGE = ["--model-args", '{"width": 16384, "pairs": 200}', "--weights", "huge.safetensors"]  # 1.7 TB, if it were there


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "d.npy", random_rows(NUM_ROWS, 64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *options: object, code: int = 0) -> str:
    job = ["--model", "split:Stack", "--data", "d.npy", "--output", "p.npy", "--batch-size", BATCH_SIZE, "--threads", 1]
    found = main(["plan", *map(str, job), *map(str, options)])
    said = capsys.readouterr()
    assert found == code, said.err
    return said.out if code == 0 else said.err


def table(told: str) -> dict[int, list[str]]:
    """By M what stands in its line: stages where there are any, bytes of weights, memory, verdict."""
    lines = re.split(r"\n *M  [^\n]*\n", told)[1].partition("\n\n")[0].splitlines()
    cells = [re.split(r"  +", line.strip()) for line in lines]
    return {int(line[0]): line[1:] for line in cells}


def job(folder: Path, ranks: int, *options: str) -> dict:
    words = ["--data", "d.npy", "--output", "p.npy", "--batch-size", str(BATCH_SIZE), *options]
    outcome = run(predict_command(*words, launcher=mpirun(ranks)), folder, timeout=180)
    assert outcome.code == 0, outcome.output
    return json.loads((folder / "p.npy.run/report.json").read_text())


def test_a_module_in_stages_of_split_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "layers.py").write_text(LAYERS)
    model = ["--model", "layers:build", "--parallel-plan", "layers:plan"]
    options = [*model, "--model-parallel", "4", "--pipeline-stages", "2"]
    told = plan(capsys, *options)
    report = job(folder, 4, *options)
    held = [rank["part_bytes"] for rank in report["ranks"]]
    stages, weights, _, verdict = table(told)[4]
    assert (stages, verdict) == ("2", "yes")
    assert number(weights) == max(held) < number(fact(told, "model")) / 2
    assert "1 replica of 4 ranks: 13 chunks each" in fact(told, "ranks")
    speed = fact(told, "speed").partition(" rows/s ")[2]
    assert speed.startswith("of the complete model on one rank, measured on 97 rows")
    assert [line.split()[:2] for line in told.splitlines() if line.endswith("start-up")] == [["4", "1"]]

    (folder / "p.npy").rename(folder / "p.npy.partial")  # as a job leaves it that is killed after five chunks
    ledger = folder / "p.npy.run/ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:7]))
    again = plan(capsys, *options, "--ranks", 8, "--report", "p.npy.run/report.json")
    assert fact(again, "resumed").startswith("5 chunks, 40 rows")
    assert fact(again, "ranks").endswith("2 replicas of 4 ranks: 4 chunks each")
    pace = report["rows_per_second"]
    assert fact(again, "speed") == f"{rate(pace)} of one replica of 4 ranks, by p.npy.run/report.json"
    assert "another job: it differs in model_parallel" in plan(capsys, *model, "--model-parallel", 2, code=65)


def test_a_causal_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    import transformers

    split.causal_model(folder / "llama", tie_word_embeddings=True)
    np.save(folder / "d.npy", np.random.default_rng(0).integers(3, 200, (30, 7)))
    options = ["--model", "./llama", "--model-args", '{"max_new_tokens": 5}']
    told = plan(capsys, *options, "--memory-per-rank", "300M")
    held = [rank["part_bytes"] for rank in job(folder, 2, *options, "--model-parallel", "2")["ranks"]]
    assert number(table(told)[2][1]) == max(held)
    assert table(told)[4][0] == "2"  # 2 key and value heads are for 2 ranks, so 4 take two stages

    model = transformers.LlamaForCausalLM.from_pretrained(folder / "llama")
    kept = model(torch.zeros(BATCH_SIZE, 12, dtype=torch.long), use_cache=True).past_key_values.layers
    num_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept)
    assert f"keys and values of 8 rows of 12 tokens, {num_bytes / 1024:.3g} KiB divided by M" in told
    assert "advice: no M up to 64 fits. --dtype bfloat16 halves the weights" in told
    in_half = plan(capsys, *options, "--memory-per-rank", "300M", "--dtype", "bfloat16", "--overwrite")
    assert number(fact(in_half, "model")) == number(fact(told, "model")) / 2


def test_a_model_that_this_host_cannot_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = psutil.Process().memory_info().rss
    told = plan(capsys, *HUGE, *SPLIT[:2], "--memory-per-rank", "300G", "--ranks-per-node", 4, "--memory", "5T")
    assert psutil.Process().memory_info().rss - before < 300e6
    weights = 200 * (8 * 16384**2 + 5 * 16384) + 3 * 16384  # numbers of 4 bytes
    assert number(fact(told, "model")) == 4 * weights
    assert fact(told, "loaded").startswith("not here: ")
    assert [line[-1] for line in table(told).values()] == ["no", "no", "no", "yes"]
    assert "advice: the smallest M that fits is 8: --model-parallel 8 --parallel-plan split:plan" in told
    assert "Its ranks are on several nodes of 4 ranks: every second layer waits for the network" in told
    assert "rank 0 needs 1.56 TiB more of its node's memory at the start" in told  # for its buffer of random numbers
    assert "--model-parallel 8 --pipeline-stages 8" in plan(capsys, *HUGE, "--memory-per-rank", "300G")

    report = {"world_size": 8, "peak_rss_bytes": [10**9] * 8, "startup_seconds": 60.0, "rows_per_second": 9.7}
    (folder / "report.json").write_text(json.dumps(report | {"config": {"model-parallel": 8}}))
    split = plan(capsys, *HUGE, *SPLIT, 8, "--ranks", 16, "--memory-per-rank", "300G", "--report", "report.json")
    assert fact(split, "time").startswith("65.0 s: 60.0 s start-up, 5.00 s of batches")
    assert "2 replicas of 8 ranks" in fact(split, "ranks")


def test_doctor_computes_a_batch_with_the_group(folder: Path) -> None:
    words = ["--model", "split:Stack", "--data", "d.npy", "--threads", "1", *SPLIT, "2", "--json", "found.json"]
    outcome = run([*mpirun(2), *python(), "-m", "runner", "doctor", *words], folder, timeout=240)
    assert outcome.code == 0, outcome.output
    found = {finding["check"]: finding for finding in json.loads((folder / "found.json").read_text())["findings"]}
    assert found["batch"]["message"].endswith("together, by groups of 2 ranks; answers: equal")
    assert len(found["batch"]["figures"]["batch_seconds"]) == 1  # of the one group


def test_what_need_not_or_cannot_be_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = plan(capsys, "--memory-per-rank", "200G")
    assert "advice: the complete model fits one rank, without --model-parallel" in told
    assert [line[0] for line in table(told).values()] == ["1", "2", "4", "1"]  # whole layers; there are five
    assert "the model has 5 separate layers; --pipeline-stages 8 needs" in table(told)[8][-1]
    told = plan(capsys, "--memory-per-rank", "200G", "--share-weights")
    assert (
        "\n! the number of ranks over which the model can be split is not known: --model-parallel and --share" in told
    )
    assert "\nM " not in plan(capsys)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([*SPLIT, "2", "--ranks", "3"], 64, "--model-parallel 2 does not divide --ranks 3; use a multiple of 2"),
        (["--memory-per-rank", "3"], 64, "--memory-per-rank '3' must be like 900M, 40G or 2T, of a rank"),
        (["--model-parallel", "2"], 64, "--model-parallel needs --parallel-plan module:function"),
        ([*SPLIT, "3"], 65, "the plan splits the 256 of up.0.weight (256, 64), which 3 ranks do not divide"),
        (["--parallel-plan", "split:broken_plan", "--model-parallel", "2"], 65, "raised KeyError: 'layers'"),
        (["--model", "some.onnx", "--model-parallel", "2"], 64, "--model-parallel cannot split some.onnx"),
    ],
)
def test_what_predict_refuses_is_refused(
    options: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in plan(capsys, *options, code=code)
    assert os.listdir(folder) == ["d.npy"]

"""Models whose layers are cut into stages: what one rank alone gives, and one failure of the group as a whole."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import split
import torch
from launch import horovodrun, mpirun, predict_command, predict_here, run
from reference import random_rows
from safetensors.torch import save_model
from torch import nn

from runner.config.options import make_config
from runner.core.errors import ModelError, UsageError
from runner.parallel.stages import cut_into_stages

NUM_ROWS = 203
JOB = ["--model", "split:Chain", "--data", "d.npy", "--batch-size", "20", "--chunk-size", "20"]
STAGES = ["--model-parallel", "2", "--pipeline-stages", "2"]


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray:
    rows = random_rows(NUM_ROWS, split.WIDTH)
    rows[:, 0] = np.arange(NUM_ROWS)
    np.save(tmp_path / "d.npy", rows)
    return rows


def predict(folder: Path, output: str, *options: str, launcher: Sequence[str] = ()) -> np.ndarray:
    """Run a job by a launcher, or in this process."""
    options = (*JOB, "--output", output, *options)
    if launcher:
        outcome = run(predict_command(*options, launcher=launcher), folder, timeout=120)
    else:
        outcome = predict_here(*options, folder=folder)
    assert outcome.code == 0, outcome.output
    return np.load(folder / output)


def test_the_answers_are_those_of_the_whole_model(rows: np.ndarray, tmp_path: Path) -> None:
    model = split.Chain().eval()
    with torch.no_grad():
        model.offset += 1  # other weights than a factory's
    save_model(model, tmp_path / "w.safetensors")
    with torch.inference_mode():
        expected = model(torch.from_numpy(rows))
    options, points = ["--weights", "w.safetensors"], ["--split-points", "layers.1,narrow"]
    found = {
        "three stages": predict(
            tmp_path, "a.npy", *options, "--model-parallel", "3", "--pipeline-stages", "3", *points, launcher=mpirun(3)
        ),
        "one group of two": predict(tmp_path, "b.npy", *options, *STAGES, launcher=mpirun(2)),
        "two groups of two": predict(
            tmp_path, "c.npy", *options, *STAGES, "--schedule", "dynamic", launcher=horovodrun(4)
        ),
    }
    for name, predictions in found.items():
        for column, tensor in expected.items():
            assert np.allclose(predictions[column], tensor.numpy(), atol=1e-5), (name, column)
    assert found["one group of two"].tobytes() == found["two groups of two"].tobytes()
    report = json.loads((tmp_path / "a.npy.run/report.json").read_text())
    shared_bytes = model.offset.nbytes
    parts = [rank["part_bytes"] for rank in report["ranks"]]
    assert sum(parts) == sum(parameter.nbytes for parameter in model.parameters()) + 2 * shared_bytes
    assert parts[2] == shared_bytes + sum(p.nbytes for layer in (model.narrow, model.head) for p in layer.parameters())
    assert all(0 < rank["group_seconds"] < rank["seconds"]["forward"] for rank in report["ranks"])


def test_a_stage_dies_and_another_number_of_groups_goes_on(rows: np.ndarray, tmp_path: Path) -> None:
    undisturbed = predict(tmp_path, "whole.npy", *STAGES, launcher=mpirun(2))
    (tmp_path / "flag").touch()
    options = [*STAGES, "--model-args", '{"deadly": 171.0}']  # of the second group, whose first rows are 100 or so
    outcome = run(predict_command(*JOB, "--output", "p.npy", *options, launcher=mpirun(4)), tmp_path)
    assert outcome.code != 0
    assert not (tmp_path / "flag").exists()
    assert not (tmp_path / "p.npy").exists()
    assert predict(tmp_path, "p.npy", *options, launcher=mpirun(2)).tobytes() == undisturbed.tobytes()
    assert json.loads((tmp_path / "p.npy.run/report.json").read_text())["resumed_rows"] > 0


def test_bad_rows_are_set_aside_by_all_stages(rows: np.ndarray, tmp_path: Path) -> None:
    """They fail in the last stage, in the midst of a batch whose other parts are on their way."""
    plain = predict(tmp_path, "plain.npy", *STAGES, launcher=mpirun(2))
    bad = ["--model-args", '{"bad": 55.0}', "--on-error", "quarantine"]
    found = predict(tmp_path, "p.npy", *STAGES, *bad, launcher=mpirun(2))
    others = np.arange(NUM_ROWS) != 55
    for column in plain.dtype.names:
        assert np.isnan(found[column][55]).all()
        assert np.allclose(found[column][others], plain[column][others], atol=1e-5)
    aside = json.loads((tmp_path / "p.npy.run/quarantine.jsonl").read_text())
    assert (aside["row"], "does not take" in aside["error"]) == (55, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--model-args", '{"strange": "jump"}'],
            "a stage depends on earlier stages through more than the inputs of its first layer",
        ),
        (
            ["--model-args", '{"strange": "value"}'],
            "a stage depends on earlier stages through more than the inputs of its first layer",
        ),
        (
            ["--model-args", '{"strange": "twice"}', "--split-points", "layers.4"],
            "layers.4 is not called once per batch",
        ),
        (["--split-points", "layers.7"], "the model has no layer 'layers.7'; it can be cut at embed, layers.0, "),
        (
            ["--model", "split:Stack"],
            "split the model elsewhere with --split-points, and register its layers in call order",
        ),
    ],
)
def test_what_cannot_be_cut(options: list[str], says: str, rows: np.ndarray, tmp_path: Path) -> None:
    outcome = run(predict_command(*JOB, "--output", "p.npy", *STAGES, *options, launcher=mpirun(2)), tmp_path)
    assert outcome.code == 65, outcome.output
    assert says in outcome.output
    assert outcome.output.count("runner: error") == 1, outcome.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model_parallel": 4, "pipeline_stages": 3}, "--pipeline-stages 3 does not divide --model-parallel 4"),
        ({"model_parallel": 2, "pipeline_stages": 2, "split_points": "a,b"}, "the first layers of 3 stages"),
        ({"model_parallel": 2, "micro_batches": 4}, "--micro-batches needs --pipeline-stages"),
        ({"model_parallel": 0}, "--model-parallel must be"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_config({"model": "split:Chain", "data": "d.npy", **options})


def test_stages_have_like_bytes_and_are_in_order() -> None:
    layers = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(7)], nn.Linear(8, 48, bias=False))
    stages = cut_into_stages(layers, 3)
    assert stages.begins == ("6", "7")  # of 6, 1 and 6 layers' bytes
    assert cut_into_stages(layers, 8).begins == tuple("1234567")
    assert [stages.has(1, name) for name in ("5", "6", "7", "")] == [False, True, False, True]
    with pytest.raises(ModelError, match="the model has 8 separate layers; --pipeline-stages 9"):
        cut_into_stages(layers, 9)
    with pytest.raises(ModelError, match="not in the order"):
        cut_into_stages(layers, 3, ["3", "2"])


def test_language_models_generate_and_score_as_on_one_rank(tmp_path: Path) -> None:
    """Generating with tied weights in two stages of two ranks, which split their layers; scoring in three stages."""
    split.causal_model(tmp_path / "tied", tie_word_embeddings=True, num_hidden_layers=4)
    split.causal_model(tmp_path / "untied", num_hidden_layers=4)
    np.save(tmp_path / "d.npy", np.random.default_rng(0).integers(3, 200, (30, 7)))
    generate = ["--model", "./tied", "--model-args", '{"max_new_tokens": 5}']
    alone = predict(tmp_path, "a.npy", *generate)
    assert len(np.unique(alone)) > 5
    options = ["--model-parallel", "4", "--pipeline-stages", "2"]
    assert np.array_equal(predict(tmp_path, "b.npy", *generate, *options, launcher=mpirun(4)), alone)
    score = ["--model", "./untied", "--model-args", '{"score": true}']
    alone = predict(tmp_path, "c.npy", *score)
    options = ["--model-parallel", "3", "--pipeline-stages", "3", "--micro-batches", "2"]
    assert np.allclose(predict(tmp_path, "e.npy", *score, *options, launcher=mpirun(3)), alone, atol=1e-4)

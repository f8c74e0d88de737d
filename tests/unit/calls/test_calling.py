"""What a model is called with, against the libraries that the models come from: the same bytes, on 1 to 3 ranks."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import called
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from calling_cases import (
    BATCH_SIZE,
    NUM_ROWS,
    RNG,
    Case,
    classifier,
    list_cases,
    onnx_cases,
    onnx_model,
    torch_cases,
    with_onnx_runtime,
)
from launch import LAUNCHERS, PROGRAMS, predict_here, python, run, run_here
from onnx import TensorProto, helper
from torch import nn

import runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calling")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Case]:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict([*onnx_cases(folder), *torch_cases(folder), *list_cases(folder)])


@pytest.mark.launch
@pytest.mark.parametrize("launcher", ["here", "mpirun-2", "mpirun-3"])
def test_what_a_library_gives_on_any_number_of_ranks(
    launcher: str, cases: dict[str, Case], folder: Path, tmp_path: Path
) -> None:
    common = {"batch_size": BATCH_SIZE, "chunk_size": 2 * BATCH_SIZE, "overwrite": True}
    jobs = [common | case.options | {"output": str(tmp_path / f"{name}.npy")} for name, case in cases.items()]
    path, labels = classifier(folder)
    words = pd.DataFrame({"word": [f"wörd {i}" for i in range(NUM_ROWS)]})
    words.to_parquet(folder / "words.parquet")
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    echo = onnx_model(folder / "echo.onnx", nodes, [("x", TensorProto.STRING, ["n", 1])], [("y", 8, ["n", 1])])
    jobs.append(common | {"model": path, "data": str(folder / "f32.npy"), "output": str(tmp_path / "classes.parquet")})
    jobs.append(common | {"model": echo, "data": str(folder / "words.parquet"), "output": str(tmp_path / "w.parquet")})
    if launcher == "here":
        for job in jobs:
            runner.predict(**{"threads": 1, **job})
    else:
        (tmp_path / "jobs.json").write_text(json.dumps(jobs))
        outcome = run([*LAUNCHERS[launcher], *python(), PROGRAMS / "several.py", "jobs.json"], tmp_path)
        assert outcome.code == 0, outcome.output

    differing = []
    for name, case in cases.items():
        found, expected = np.load(tmp_path / f"{name}.npy"), np.asarray(case.expected)
        if found.dtype != expected.dtype or found.tobytes() != expected.tobytes():
            differing.append((name, found.dtype, found.shape, expected.dtype, expected.shape))
    assert differing == []

    expected = with_onnx_runtime(path, X=np.load(folder / "f32.npy"))
    classes = pd.read_parquet(tmp_path / "classes.parquet")
    assert classes["label"].tolist() == expected[0]
    probabilities = np.array([[row[label] for label in labels] for row in expected[1]], np.float32)
    assert np.stack(classes["probabilities"]).tobytes() == probabilities.tobytes()
    assert pd.read_parquet(tmp_path / "w.parquet").iloc[:, 0].tolist() == words["word"].tolist()


REFUSED = {
    "too large for int32": (["i64-6.onnx", "huge.npy"], 65, ["row 2: ", "int32", "3000000001"]),
    "too large for float": (["mlp.onnx", "huge.npy"], 65, ["row 2: ", "float32", "3000000001"]),
    "rounded to float16": (["half-10.onnx", "f32.npy"], 65, ["takes float16", "--dtype float16"]),
    "rounded to integers": (["i64-6.onnx", "f64.npy"], 65, ["takes int32, not float64"]),
    "no such dtype": (
        ["mlp.onnx", "f32.npy", "--dtype", "float16"],
        64,
        ["--dtype float16: the model takes", "float32"],
    ),
    "a table without --stack": (["called:mlp", "table.csv"], 64, ["takes input", "columns a, n, b, c, id", "--stack"]),
    "an id in a table": (
        ["called:mlp", "table.csv", "--stack", "--dtype", "float32"],
        65,
        ["called with input float32 (1, 5), stacked from the columns a, n, b, c, id"],
    ),
    "text in a table": (["called:mlp", "words.parquet::word", "--stack"], 64, ["--stack", "text"]),
    "one name of two": (["called:Two", "half.parquet"], 64, ["takes left, right", "columns left, q"]),
    "more columns than inputs": (
        ["two.pt2", "table.csv"],
        64,
        ["left float32 (rows), right float32 (rows)", "a, n, b, c, id"],
    ),
    "one column of two": (["two.pt2", "both.npy"], 65, ["takes left float32", "called with left float32 (1, 2)"]),
    "a constant is missing": (["fixed.pt2", "f32.npy"], 64, ["state float32 (3, 4)", "--input state=VALUE"]),
    "no such input": (["called:mlp", "f32.npy", "--input", "rate=1"], 64, ["--input rate: the model takes input"]),
    "no JSON": (["called:mlp", "f32.npy", "--input", "rate=x"], 64, ["--input 'rate=x'", "JSON"]),
    "more rows than it takes": (["limited.pt2", "f32.npy", "--batch-size", "9"], 64, ["batches of 8 rows at most"]),
    "training mode": (["training.pt2", "f32.npy"], 65, ["exported in training mode: its dropout", "model.eval()"]),
    "compiled by AOTInductor": (["aoti.pt2", "f32.npy"], 65, ["AOTInductor", "torch.export.save"]),
    "a sequence": (["sequence.onnx", "f32.npy"], 65, ["gives y: seq(tensor(float))"]),
    "fails": (["fails.onnx", "f32.npy"], 65, ["the model failed on row 0", "called with x float32 (1, 4)"]),
    "a trace": (["trace.pt", "f32.npy"], 65, ["called with x float32 (1, 4)", "fixed to one batch size"]),
}


@pytest.fixture(scope="module")
def refused(folder: Path, cases: dict[str, Case]) -> Path:
    """Files that only refusals need."""
    huge = np.zeros((4, 4), np.int64)
    huge[2, 1] = 3_000_000_000
    np.save(folder / "huge.npy", huge + (huge > 0))
    pd.DataFrame({"left": [1.0], "q": [2.0]}).to_parquet(folder / "half.parquet")
    pd.DataFrame({"word": ["a"]}).to_parquet(folder / "words.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dropping = nn.Sequential(nn.Linear(4, 2), nn.Dropout()).train()
        torch.export.save(torch.export.export(dropping, (torch.zeros(2, 4),)), folder / "training.pt2")
        torch.jit.save(torch.jit.trace(called.Baked(), torch.zeros(8, 4)), folder / "trace.pt")
    import zipfile

    with zipfile.ZipFile(folder / "aoti.pt2", "w") as archive:  # compiling one takes a minute
        archive.writestr("aoti/data/aotinductor/model/model.wrapper.so", b"")
        archive.writestr("aoti/archive_format", b"pt2")
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["y"])]
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4]))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_value_info("y", sequence)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "sequence.onnx"
    )
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 3])
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    onnx_model(folder / "fails.onnx", nodes, [("x", 1, ["n", 4])], [("y", 1, ["m", 3])], (shape,))
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name: str, refused: Path) -> None:
    (model, data, *more), code, words = REFUSED[name]
    options = ["--model", model, "--data", data, "--output", "refused.npy", "--fresh", "--batch-size", "8", *more]
    options += ["--trust-pickle"] * model.endswith((".pt", ".pt2"))
    outcome = predict_here(*options, folder=refused)
    assert outcome.code == code, outcome.output
    assert [word for word in words if word not in outcome.output] == [], outcome.output


def test_rows_beside_one_that_cannot_be_read_are_not_padded_either(tmp_path: Path) -> None:
    tokens: list[Any] = [RNG.integers(1, 50, length) for length in (3, 9, 4, 3, 7, 5)]
    pd.DataFrame({"tokens": [*tokens[:2], None, *tokens[3:]]}).to_parquet(tmp_path / "d.parquet")
    options = ["--model", "called:Lengths", "--data", "d.parquet::tokens", "--output", "p.npy"]
    outcome = predict_here(*options, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    expected = [np.nan if row == 2 else tokens[row].mean() for row in range(6)]
    assert np.array_equal(np.load(tmp_path / "p.npy"), expected, equal_nan=True)


def test_the_log_says_what_the_model_is_called_with(refused: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runner")
    outcome = predict_here(
        *["--model", "columns.onnx", "--data", "ab.parquet", "--output", "told.npy", "--overwrite"], folder=refused
    )
    assert outcome.code == 0, outcome.output
    assert "called with b float32 (1, 1), a float32 (1, 1); float64 rows to float32 for b; int64 rows" in caplog.text


def test_plan_is_for_the_batches_that_the_model_takes(refused: Path) -> None:
    options = ["--data", "f32.npy", "--output", "planned.npy", "--input", "rate=1", "--input", "state=state.npy"]
    outcome = run_here("plan", "--model", "fixed.pt2", "--trust-pickle", *options, folder=refused)
    assert outcome.code == 0, outcome.output
    assert "5 of 8 rows" in outcome.output
    assert "! --batch-size 32: the model was exported for batches of 8 rows at most" in outcome.output


SAYS = {
    "fixed.pt2": ["batch    8 rows at most", "rows float32 (8, 4), state float32 (3, 4), rate float32 ()"],
    "limited.pt2": ["at least 3 rows", "at most 8 rows", "input float32 (rows, 4)"],
    "masked.onnx": ["input_ids int64 (rows, ?), attention_mask int64"],
    "called:Masked": ["called   input_ids, attention_mask"],
    "two.pt": ["called   left, right"],
}


@pytest.mark.parametrize("model", SAYS)
def test_inspect_says_what_it_takes(model: str, refused: Path) -> None:
    outcome = run_here("inspect", model, *["--trust-pickle"] * model.endswith((".pt", ".pt2")), folder=refused)
    assert outcome.code == 0, outcome.output
    assert [words for words in SAYS[model] if words not in outcome.output] == [], outcome.output

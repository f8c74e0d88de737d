"""What a model is called with, against the libraries that the models come from: the same bytes, on 1 to 3 ranks."""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import called
import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from launch import LAUNCHERS, TESTS, predict_here, run, run_here
from onnx import TensorProto, helper
from torch import nn

import runner

NUM_ROWS, BATCH_SIZE = 37, 8
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """Options of a job, and what its output must hold."""

    options: dict[str, Any]
    expected: Any


def batches(num_rows: int = NUM_ROWS) -> Iterator[slice]:
    return (slice(start, min(start + BATCH_SIZE, num_rows)) for start in range(0, num_rows, BATCH_SIZE))


def onnx_model(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: tuple[Any, ...] = ()
) -> str:
    """An ONNX file of these nodes; inputs and outputs are (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*value) for value in some] for some in (inputs, outputs)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph(nodes, "graph", *values, list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return str(path)


def with_onnx_runtime(path: str, **feed: np.ndarray) -> list[Any]:
    """What ONNX Runtime gives by itself, batch by batch."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = [session.run(None, {name: rows[part] for name, rows in feed.items()}) for part in batches()]
    return [[row for part in parts for row in part] for parts in zip(*found, strict=True)]


def by_batches(model: Callable[..., torch.Tensor], *columns: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = [model(*(torch.from_numpy(column[part]) for column in columns)).numpy() for part in batches()]
    return np.concatenate(parts)


def onnx_cases(folder: Path) -> Iterator[tuple[str, Case]]:
    rows = RNG.normal(size=(NUM_ROWS, 4))
    whole = RNG.integers(-1000, 1000, (NUM_ROWS, 4))
    np.save(folder / "f64.npy", rows)
    np.save(folder / "i64.npy", whole)
    np.save(folder / "u8.npy", whole.astype(np.uint8))
    np.save(folder / "bool.npy", whole > 0)
    path = str(folder / "mlp.onnx")
    example, axes = torch.zeros(2, 4), ({0: torch.export.Dim("batch", min=1)},)
    torch.onnx.export(called.mlp().eval(), (example,), path, dynamic_shapes=axes, external_data=False, verbose=False)
    name = onnxruntime.InferenceSession(path).get_inputs()[0].name
    for data, array in (("f64", rows), ("i64", whole), ("u8", whole.astype(np.uint8)), ("bool", whole > 0)):
        expected = with_onnx_runtime(path, **{name: array.astype(np.float32)})[0]
        yield f"{data}-into-float", Case({"model": path, "data": str(folder / f"{data}.npy")}, expected)
    half = rows.astype(np.float32) * np.float32(0.5)
    np.save(folder / "f32.npy", rows.astype(np.float32))
    yield (
        "arrays-of-preprocess",
        Case(
            {"model": path, "data": str(folder / "f32.npy"), "preprocess": "called:as_arrays"},
            with_onnx_runtime(path, **{name: half})[0],
        ),
    )

    twice = [helper.make_node("Add", ["x", "x"], ["y"])]
    for kind, dtype, given, data in (
        (TensorProto.INT32, np.int32, whole, "i64"),
        (TensorProto.INT64, np.int64, whole > 0, "bool"),
        (TensorProto.DOUBLE, np.float64, rows, "f64"),
    ):
        made = onnx_model(folder / f"{data}-{kind}.onnx", twice, [("x", kind, ["n", 4])], [("y", kind, ["n", 4])])
        yield (
            f"{data}-into-{dtype.__name__}",
            Case({"model": made, "data": str(folder / f"{data}.npy")}, given.astype(dtype) * 2),
        )
    for kind, dtype in (
        (TensorProto.FLOAT16, np.dtype(np.float16)),
        (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    ):
        nodes = [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Neg", ["wide"], ["z"]),
        ]
        nodes.append(helper.make_node("Cast", ["z"], ["y"], to=kind))
        made = onnx_model(folder / f"half-{kind}.onnx", nodes, [("x", kind, ["n", 4])], [("y", kind, ["n", 4])])
        rounded = -rows.astype(np.float32).astype(dtype)
        expected = rounded.astype(np.float32) if kind == TensorProto.BFLOAT16 else rounded
        options = {"model": made, "data": str(folder / "f32.npy"), "dtype": "float16" if kind == 10 else "bfloat16"}
        yield options["dtype"], Case(options, expected)

    nodes = [helper.make_node("Mul", ["a", "b"], ["y"])]
    made = onnx_model(folder / "columns.onnx", nodes, [("a", 1, ["n", 1]), ("b", 1, ["n", 1])], [("y", 1, ["n", 1])])
    table = pd.DataFrame({"b": rows[:, 1], "a": whole[:, 0]})
    table.to_parquet(folder / "ab.parquet")
    product = rows[:, 1].astype(np.float32) * whole[:, 0].astype(np.float32)
    yield "columns-of-scikit-learn", Case({"model": made, "data": str(folder / "ab.parquet")}, product[:, None])


def classifier(folder: Path) -> tuple[str, list[str]]:
    """What skl2onnx makes of a logistic regression: labels, and a sequence of maps."""
    labels = ["ant", "bee", "cat"]
    coefficients = np.random.default_rng(1).normal(size=12).astype(float).tolist()
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["X"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            classlabels_strings=labels,
            coefficients=coefficients,
            intercepts=[0.1, 0.0, -0.1],
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=labels),
    ]
    path = folder / "classifier.onnx"
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_value_info("probabilities", maps),
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return str(path), labels


def torch_cases(folder: Path) -> Iterator[tuple[str, Case]]:
    left, right = RNG.normal(size=(2, NUM_ROWS)).astype(np.float32)
    pd.DataFrame({"p": left, "q": right}).to_parquet(folder / "pq.parquet")
    pd.DataFrame({"right": right, "left": left}).to_parquet(folder / "named.parquet")
    np.save(folder / "both.npy", np.stack([left, right], axis=1))
    axis = torch.export.Dim("batch", min=1)
    example = (torch.zeros(2), torch.zeros(2))
    program = torch.export.export(called.Two(), example, dynamic_shapes=({0: axis}, {0: axis}))
    torch.export.save(program, folder / "two.pt2")
    torch.jit.save(torch.jit.script(called.Two()), folder / "two.pt")
    for model in ("called:Two", str(folder / "two.pt2"), str(folder / "two.pt")):
        for data in ("pq", "named"):
            kind = model[-4:].replace("/", "")
            yield f"{data}-{kind}", Case({"model": model, "data": str(folder / f"{data}.parquet")}, left * 2 - right)
    arrays = {"model": str(folder / "two.pt2"), "data": str(folder / "both.npy"), "preprocess": "called:as_two_arrays"}
    yield "list-of-arrays", Case(arrays, left * 2 - right)

    table = RNG.normal(size=(NUM_ROWS, 3))
    counts = RNG.integers(0, 9, NUM_ROWS)
    frame = pd.DataFrame({"a": table[:, 0], "n": counts, "b": table[:, 1], "c": table[:, 2], "id": np.arange(NUM_ROWS)})
    frame.to_csv(folder / "table.csv", index=False)
    matrix = np.stack([table[:, 0], counts, table[:, 1], table[:, 2]], axis=1).astype(np.float32)
    stacked = {"model": "called:mlp", "data": str(folder / "table.csv"), "stack": True, "dtype": "float32"}
    yield "csv", Case(stacked | {"columns": "a,n,b,c"}, by_batches(called.mlp().eval(), matrix))

    state = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(folder / "state.npy", state)
    fixed = torch.export.export(called.Scaled(), (torch.zeros(8, 4), torch.zeros(3, 4), torch.zeros(())))
    torch.export.save(fixed, folder / "fixed.pt2")
    rows = np.load(folder / "f32.npy")
    constants = {"input": {"state": str(folder / "state.npy"), "rate": 2.5}}
    expected = rows * state.sum(axis=0) + np.float32(2.5)
    for model in (str(folder / "fixed.pt2"), "called:Scaled"):
        yield f"constants-{model[-4:]}", Case({"model": model, "data": str(folder / "f32.npy")} | constants, expected)

    limited = ({0: torch.export.Dim("batch", min=3, max=8)},)
    program = torch.export.export(called.mlp().eval(), (torch.zeros(4, 4),), dynamic_shapes=limited)
    torch.export.save(program, folder / "limited.pt2")
    last = np.concatenate([rows, rows[-1:].repeat(BATCH_SIZE, axis=0)])
    yield (
        "least-rows",
        Case(
            {"model": str(folder / "limited.pt2"), "data": str(folder / "f64.npy"), "limit": 34},
            np.concatenate(
                [
                    by_batches(called.mlp().eval(), last[:40])[:32],
                    called.mlp()(torch.from_numpy(last[[32, 33, 33]])).detach().numpy()[:2],
                ]
            ),
        ),
    )


def list_cases(folder: Path) -> Iterator[tuple[str, Case]]:
    vectors = list(RNG.normal(size=(NUM_ROWS, 4)).astype(np.float32))
    pd.DataFrame({"emb": vectors}).to_parquet(folder / "emb.parquet")
    yield (
        "vectors-into-a-module",
        Case(
            {"model": "called:mlp", "data": f"{folder}/emb.parquet::emb"},
            by_batches(called.mlp().eval(), np.stack(vectors)),
        ),
    )
    path = str(folder / "mlp.onnx")
    name = onnxruntime.InferenceSession(path).get_inputs()[0].name
    yield (
        "vectors-into-onnx",
        Case(
            {"model": path, "data": f"{folder}/emb.parquet::emb"},
            with_onnx_runtime(path, **{name: np.stack(vectors)})[0],
        ),
    )
    tokens = [RNG.integers(1, 50, RNG.integers(1, 30)) for _ in range(NUM_ROWS)]
    pd.DataFrame({"tokens": tokens}).to_parquet(folder / "tokens.parquet")
    data = f"{folder}/tokens.parquet::tokens"
    yield (
        "no-padding-without-a-mask",
        Case({"model": "called:Lengths", "data": data}, np.array([row.mean() for row in tokens])),
    )
    masked = called.Masked().eval()
    with torch.inference_mode():
        alone = [masked(torch.from_numpy(row)[None], torch.ones(1, len(row), dtype=torch.int64))[0] for row in tokens]
    expected = torch.stack(alone).numpy()  # the largest of each, whatever is beside it
    rows, length = torch.export.Dim("rows", min=1), torch.export.Dim("length", min=1)
    axes = ({0: rows, 1: length}, {0: rows, 1: length})
    example = (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))
    torch.onnx.export(masked, example, folder / "masked.onnx", dynamic_shapes=axes, external_data=False, verbose=False)
    torch.export.save(torch.export.export(masked, example, dynamic_shapes=axes), folder / "masked.pt2")
    torch.jit.save(torch.jit.script(masked), folder / "masked.pt")
    for model in ("called:Masked", *(str(folder / f"masked.{suffix}") for suffix in ("onnx", "pt2", "pt"))):
        yield f"mask-{Path(model).suffix}", Case({"model": model, "data": data}, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calling")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Case]:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict([*onnx_cases(folder), *torch_cases(folder), *list_cases(folder)])


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
        outcome = run([*LAUNCHERS[launcher], sys.executable, TESTS / "jobs/several.py", "jobs.json"], tmp_path)
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
    "rounded to whole numbers": (["i64-6.onnx", "f64.npy"], 65, ["takes int32, not float64"]),
    "no such dtype": (
        ["mlp.onnx", "f32.npy", "--dtype", "float16"],
        64,
        ["--dtype float16: the model takes", "float32"],
    ),
    "a table without --stack": (["called:mlp", "table.csv"], 64, ["takes input", "columns a, n, b, c, id", "--stack"]),
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
    "more rows than it takes": (["limited.pt2", "f32.npy", "--batch-size", "9"], 64, ["batches of 8 rows, no more"]),
    "training mode": (["training.pt2", "f32.npy"], 65, ["exported in training mode: its dropout", "model.eval()"]),
    "compiled by AOTInductor": (["aoti.pt2", "f32.npy"], 65, ["AOTInductor", "torch.export.save"]),
    "a sequence": (["sequence.onnx", "f32.npy"], 65, ["gives y: seq(tensor(float))"]),
    "fails": (["fails.onnx", "f32.npy"], 65, ["the model failed on row 0", "called with x float32 (1, 4)"]),
    "a trace": (["trace.pt", "f32.npy"], 65, ["called with x float32 (1, 4)", "number of rows it was made with"]),
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
    outcome = run_here("plan", "--model", "fixed.pt2", *options, folder=refused)
    assert outcome.code == 0, outcome.output
    assert "5 of 8 rows" in outcome.output
    assert "! --batch-size 32: the model was exported for batches of 8 rows, no more" in outcome.output


SAYS = {
    "fixed.pt2": ["batch    8 rows, no more", "rows float32 (8, 4), state float32 (3, 4), rate float32 ()"],
    "limited.pt2": ["at least 3 rows", "at most 8 rows", "input float32 (rows, 4)"],
    "masked.onnx": ["input_ids int64 (rows, ?), attention_mask int64"],
    "called:Masked": ["called   input_ids, attention_mask"],
    "two.pt": ["called   left, right"],
}


@pytest.mark.parametrize("model", SAYS)
def test_inspect_says_what_it_takes(model: str, refused: Path) -> None:
    outcome = run_here("inspect", model, folder=refused)
    assert outcome.code == 0, outcome.output
    assert [words for words in SAYS[model] if words not in outcome.output] == [], outcome.output

"""Models of every kind, and what each must give for the rows of a data set: the cases of test_calling.py."""

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
import torch
from onnx import TensorProto, helper

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


def _options(model: str) -> dict[str, object]:
    """Return the options that name a model, with the trust that a program needs."""
    return {"model": model} | ({"trust_pickle": True} if model.endswith((".pt", ".pt2")) else {})


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
            yield f"{data}-{kind}", Case(_options(model) | {"data": str(folder / f"{data}.parquet")}, left * 2 - right)
    arrays = _options(str(folder / "two.pt2")) | {
        "data": str(folder / "both.npy"),
        "preprocess": "called:as_two_arrays",
    }
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
        yield f"constants-{model[-4:]}", Case(_options(model) | {"data": str(folder / "f32.npy")} | constants, expected)

    limited = ({0: torch.export.Dim("batch", min=3, max=8)},)
    program = torch.export.export(called.mlp().eval(), (torch.zeros(4, 4),), dynamic_shapes=limited)
    torch.export.save(program, folder / "limited.pt2")
    last = np.concatenate([rows, rows[-1:].repeat(BATCH_SIZE, axis=0)])
    yield (
        "least-rows",
        Case(
            _options(str(folder / "limited.pt2")) | {"data": str(folder / "f64.npy"), "limit": 34},
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
        yield f"mask-{Path(model).suffix}", Case(_options(model) | {"data": data}, expected)

"""A model in every kind of file that users have, against the library it comes from: the same bytes, on 1 to 3 ranks."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import stack
import torch
import zoo
from launch import LAUNCHERS, PROGRAMS, TESTS, predict_command, predict_here, python, run, run_here
from reference import random_rows
from safetensors.torch import save_file, save_model

from runner.cli.main import main

NUM_ROWS, BATCH_SIZE = 100, 32
FACTORY = {"model": "stack:build"}
Predict = Callable[[np.ndarray], np.ndarray]


def batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]


def with_torch(model: Callable[..., torch.Tensor]) -> Predict:
    def predict(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([model(torch.from_numpy(batch)).numpy() for batch in batches(rows)])

    return predict


def with_onnx_runtime(path: Path, size: int | None = None) -> Predict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(rows: np.ndarray) -> np.ndarray:
        found = []
        for batch in batches(rows):
            full = np.concatenate([batch, np.repeat(batch[-1:], (size or len(batch)) - len(batch), axis=0)])
            found.append(session.run(None, {session.get_inputs()[0].name: full})[0][: len(batch)])
        return np.concatenate(found)

    return predict


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, of another seed than the factory's, in every kind of file, and what must come out of each."""
    folder = tmp_path_factory.mktemp("kinds")
    rows = random_rows(NUM_ROWS, 64)
    np.save(folder / "rows.npy", rows)
    torch.set_num_threads(1)
    model = stack.build(seed=7).eval()
    state = model.state_dict()
    kinds: dict[str, tuple[dict[str, object], Predict]] = {}
    plain = with_torch(model)

    torch.save(state, folder / "bare.pth")
    torch.save({"epoch": 3, "model_state_dict": state, "optimizer": {"lr": 0.1}}, folder / "checkpoint.pt")
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}}, folder / "ddp.pt")
    torch.save({f"model._orig_mod.{name}": t for name, t in state.items()}, folder / "compiled.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(model, folder / "pickled.pt")
    save_model(model, str(folder / "plain.safetensors"))
    names = list(state)
    for number, part in enumerate((names[:3], names[3:])):
        save_file({name: state[name] for name in part}, folder / f"part-{number}.safetensors")
    places = {name: f"part-{int(position >= 3)}.safetensors" for position, name in enumerate(names)}
    (folder / "parts.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for name in ("bare.pth", "checkpoint.pt", "ddp.pt", "compiled.pt", "old.pt", "plain.safetensors"):
        kinds[name] = {**FACTORY, "weights": str(folder / name)}, plain
    kinds["index"] = {**FACTORY, "weights": str(folder / "parts.safetensors.index.json")}, plain
    kinds["pickled"] = {**FACTORY, "weights": str(folder / "pickled.pt"), "trust_pickle": True}, plain

    batch = torch.from_numpy(rows[:BATCH_SIZE])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), folder / "script.pt")
        torch.jit.save(torch.jit.trace(model, batch), folder / "trace.pt")
        for name in ("script", "trace"):
            loaded = torch.jit.load(folder / f"{name}.pt")
            kinds[name] = {"model": str(folder / f"{name}.pt"), "trust_pickle": True}, with_torch(loaded)
        open_size = {0: torch.export.Dim("batch", min=1)}
        torch.export.save(torch.export.export(model, (batch[:2],), dynamic_shapes=(open_size,)), folder / "open.pt2")
        torch.export.save(torch.export.export(model, (batch,)), folder / "fixed.pt2")
        torch.onnx.export(
            model, (batch[:2],), folder / "open.onnx", dynamic_shapes=(open_size,), external_data=False, verbose=False
        )
        torch.onnx.export(model, (batch,), folder / "fixed.onnx", external_data=False, verbose=False)
        torch.onnx.export(model, (batch,), folder / "external.onnx", external_data=True, verbose=False)
    program = torch.export.load(folder / "open.pt2").module()
    kinds["export"] = {"model": str(folder / "open.pt2"), "trust_pickle": True}, with_torch(program)
    kinds["export-fixed"] = {"model": str(folder / "fixed.pt2"), "trust_pickle": True}, plain
    kinds["onnx"] = {"model": str(folder / "open.onnx")}, with_onnx_runtime(folder / "open.onnx")
    kinds["onnx-fixed"] = {"model": str(folder / "fixed.onnx")}, with_onnx_runtime(folder / "fixed.onnx", BATCH_SIZE)

    kinds["onnx-two-files"] = {"model": str(folder / "external.onnx")}, kinds["onnx-fixed"][1]

    kinds["callable"] = {"model": "stack:OnDevice"}, with_torch(stack.build().eval())
    np.savez(folder / "own.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    own = {"model": "stack:module_from_file", "model_args": {"layers": 4}, "weights": str(folder / "own.npz")}
    kinds["own-format"] = own, plain
    import joblib
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression().fit(rows, np.arange(NUM_ROWS) % 3)
    joblib.dump(classifier, folder / "classifier.joblib")
    kinds["scikit-learn"] = (
        {"model": "stack:probabilities", "weights": str(folder / "classifier.joblib")},
        lambda rows: np.concatenate([classifier.predict_proba(batch) for batch in batches(rows)]),
    )

    (folder / "kinds.json").write_text(json.dumps({name: options for name, (options, _) in kinds.items()}))
    for name, (_, predict) in kinds.items():
        np.save(folder / f"expected-{name}.npy", predict(rows))
    return folder


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3"])
def test_every_kind_gives_what_its_library_gives(launcher: str, folder: Path, tmp_path: Path) -> None:
    outcome = run([*LAUNCHERS[launcher], *python(), PROGRAMS / "kinds.py", folder, tmp_path], tmp_path)
    assert outcome.code == 0, outcome.output
    kinds = json.loads((folder / "kinds.json").read_text())
    assert len(kinds) > 15
    differing = [
        name
        for name in kinds
        if np.load(tmp_path / f"{name}.npy").tobytes() != np.load(folder / f"expected-{name}.npy").tobytes()
    ]
    assert differing == []
    assert "ddp.pt: its entry 'state_dict' is taken and 'module.' is dropped from the names" in outcome.output
    assert outcome.output.count("checkpoint.pt: its entry 'model_state_dict' is taken") == 1  # by rank 0 alone


def test_the_kinds_are_worth_comparing(folder: Path) -> None:
    """Guards the comparison: the weights matter, and all kinds of the one model agree but for rounding."""
    expected = {path.stem: np.load(path) for path in folder.glob("expected-*.npy")}
    one = expected["expected-index"]
    assert not np.allclose(one, expected["expected-callable"])
    for name in ("script", "export", "onnx", "onnx-fixed", "onnx-two-files"):
        assert np.allclose(one, expected[f"expected-{name}"], atol=1e-6), name


def test_a_model_from_tensorflow(tmp_path: Path) -> None:
    given = np.load(TESTS / "data/tensorflow.npz")
    np.save(tmp_path / "rows.npy", given["rows"])
    options = ["--model", TESTS / "data/tensorflow.onnx", "--data", "rows.npy", "--output", "p.npy"]
    outcome = run(predict_command(*options, "--batch-size", "8", launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.allclose(np.load(tmp_path / "p.npy"), given["predictions"], atol=1e-6)


SAYS = {
    "stack:build": ["nn.Module, Sequential", "16,640 parameters in 8 tensors", "66,560 bytes", "(batch, ..., 64)"],
    "script.pt": ["TorchScript, Sequential", "66,560 bytes", "Tensor"],
    "open.pt2": ["a program of torch.export", "16,640 parameters"],
    "fixed.pt2": ["32 rows at most"],
    "open.onnx": ["ONNX", "tensor(float) ['batch', 64]"],
    "fixed.onnx": ["tensor(float) [32, 64]", "32 rows at most"],
    "stack:OnDevice": ["callable, stack:OnDevice", "(rows: torch.Tensor) -> torch.Tensor"],
}


@pytest.mark.parametrize("model", SAYS)
def test_inspect_says_what_it_is(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["inspect", model, *["--trust-pickle"] * model.endswith((".pt", ".pt2"))]) == 0
    printed = capsys.readouterr().out
    assert [words for words in SAYS[model] if words not in printed] == [], printed


def test_inspect_says_what_a_job_would_say(folder: Path) -> None:
    outcome = run_here("inspect", "stack:build", "--weights", "nowhere.pt", folder=folder)
    assert (outcome.code, "--weights nowhere.pt: no such file" in outcome.output) == (65, True), outcome.output


BAD: dict[str, tuple[int, str, list[str]]] = {
    "a state dict as a model": (65, "is a state dict, a checkpoint or a pickled module", ["--model", "checkpoint.pt"]),
    "text as TorchScript": (65, "text.pt is text that begins with 'just some", ["--model", "text.pt"]),
    "text as an exported program": (65, "text.pt2 is text that", ["--model", "text.pt2"]),
    "text as ONNX": (65, "text.onnx is not a model that ONNX Runtime can load", ["--model", "text.onnx"]),
    "truncated TorchScript": (65, "cut.pt is a zip archive whose end is missing", ["--model", "cut.pt"]),
    "truncated ONNX": (65, "cut.onnx is not a model", ["--model", "cut.onnx"]),
    "no such model": (65, "--model no.onnx: No such file", ["--model", "no.onnx"]),
    "ONNX without its second file": (65, "lonelyyy.onnx.data: No such file", ["--model", "lonely.onnx"]),
    "weights for a complete model": (
        64,
        "--weights belongs to a factory",
        ["--model", "script.pt", "--weights", "bare.pth"],
    ),
    "too large a batch": (64, "was exported for batches of 32", ["--model", "fixed.onnx", "--batch-size", "33"]),
    "a missing part": (
        65,
        "part-9.safetensors is missing, which holds 0.weight",
        ["--model", "stack:build", "--weights", "gone.safetensors.index.json"],
    ),
    "no index": (65, "index.json is text that", ["--model", "stack:build", "--weights", "text.safetensors.index.json"]),
    "arrays of NumPy": (65, "own.npz is a file of NumPy arrays", ["--model", "stack:build", "--weights", "own.npz"]),
    "no weights where they are wanted": (65, "needs weights", ["--model", "stack:probabilities"]),
    "weights for a callable": (
        65,
        "returned no torch.nn.Module",
        ["--model", "stack:OnDevice", "--weights", "bare.pth"],
    ),
    "two state dicts": (
        65,
        "of which generator, critic could be meant",
        ["--model", "stack:build", "--weights", "gan.pt"],
    ),
}


@pytest.fixture(scope="module")
def bad_files(folder: Path) -> Path:
    """Beside the good ones."""
    state = torch.load(folder / "bare.pth")
    torch.save({"generator": state, "critic": state}, folder / "gan.pt")
    for suffix in ("pt", "pt2", "onnx", "safetensors.index.json"):
        (folder / f"text.{suffix}").write_text("just some words, of no format at all\n" * 9)
    for name in ("script.pt", "open.onnx"):
        raw = (folder / name).read_bytes()
        (folder / f"cut.{name.partition('.')[2]}").write_bytes(raw[: len(raw) // 2])
    # the one that keeps its weights in another file, under a name that this file does not have
    raw = (folder / "external.onnx").read_bytes()
    (folder / "lonely.onnx").write_bytes(raw.replace(b"external.onnx.data", b"lonelyyy.onnx.data"))
    index = {"weight_map": {"0.weight": "part-9.safetensors"}}
    (folder / "gone.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_message(
    case: str, bad_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message, options = BAD[case]
    monkeypatch.chdir(bad_files)
    assert main(["predict", "--data", "rows.npy", "--output", str(tmp_path / "p.npy"), *options]) == code
    assert_one_message(capsys.readouterr().err, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["text as ONNX", "a missing part"])
def test_bad_files_give_one_message_of_two_ranks(case: str, bad_files: Path, tmp_path: Path) -> None:
    code, message, options = BAD[case]
    output = str(tmp_path / "p.npy")
    command = predict_command("--data", "rows.npy", "--output", output, *options, launcher=LAUNCHERS["mpirun-2"])
    outcome = run(command, bad_files)
    assert outcome.code == code, outcome.output
    assert_one_message(outcome.output, message)
    assert not list(tmp_path.iterdir())


def assert_one_message(printed: str, message: str) -> None:
    assert message in printed, printed
    assert printed.count("runner: error") == 1, printed
    assert "Traceback" not in printed


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_malicious_pickles_do_not_run(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    torch.save({"state_dict": stack.build().state_dict(), "x": Evil(trace)}, tmp_path / "evil.pt")
    weights = ["--model", "stack:build", "--weights", "evil.pt"]
    command = ["--data", folder / "rows.npy", "--output", "p.npy", "--overwrite", *weights]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 65, outcome.output
    assert "Traceback" not in outcome.output
    assert not trace.exists()
    predict_here(*command, "--trust-pickle", folder=tmp_path)
    assert trace.exists()  # so the test would notice


@pytest.mark.parametrize("command", ["predict", "plan", "inspect"])
def test_a_program_is_loaded_only_if_it_is_trusted(command: str, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "open.pt2", tmp_path / "renamed.pt")
    shutil.copy(folder / "script.pt", tmp_path / "renamed")
    data = ["--data", folder / "rows.npy", "--output", "p.npy"]
    what = ("a program of torch.export", "a TorchScript model")
    for model, kind in ((folder / "open.pt2", 0), ("renamed.pt", 0), (folder / "trace.pt", 1), ("renamed", 1)):
        options = [model] if command == "inspect" else ["--model", model, *data]
        outcome = run_here(command, *options, folder=tmp_path)
        assert outcome.code == 65, outcome.output
        assert_one_message(outcome.output, f"is {what[kind]}: a program, which can do more than compute")
        assert "If you trust its author, allow it with --trust-pickle" in outcome.output
        assert sorted(path.name for path in tmp_path.iterdir()) == ["renamed", "renamed.pt"]


def test_a_model_that_is_neither_module_nor_callable(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(5, 8))
    outcome = predict_here("--model", "zoo:not_a_module", "--data", "d.npy", "--output", "p.npy", folder=tmp_path)
    assert (outcome.code, "returned a list, not a torch.nn.Module" in outcome.output) == (65, True), outcome.output
    assert zoo.not_a_module() == [1]

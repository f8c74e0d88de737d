"""Checkpoints and model files as people have them, told by content, against what PyTorch makes of them."""

import json
import pickle
import shutil
import struct
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import checkpointed
import numpy as np
import pytest
import torch
from checkpoint_files import BATCH_SIZE, PLAIN, assert_refused, write_files
from launch import LAUNCHERS, PROGRAMS, TESTS, predict_here, python, run, run_here
from safetensors.torch import save_file
from torch import nn

import runner
from runner.models.weights.state_dict import WeightsFile, load_weights

IGNORED = "without 1 tensor of the file: loss.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_files(folder)
    return folder


def differing(folder: Path, outputs: Path, names: Collection[str]) -> list[str]:
    """The kinds whose predictions are not those of their library; of ONNX but for rounding."""
    found = {name: np.load(outputs / f"{name}.npy") for name in names}
    expected = {name: np.load(folder / f"expected-{name}.npy") for name in names}
    assert np.allclose(found["open.model"], expected["open.model"], atol=1e-5)
    return [name for name in names if name != "open.model" and found[name].tobytes() != expected[name].tobytes()]


def test_every_kind_gives_what_pytorch_gives(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = json.loads((folder / "kinds.json").read_text())
    assert len(kinds) > 25
    for name, options in kinds.items():
        output = tmp_path / f"{name}.npy"
        runner.predict(data=folder / "rows.npy", output=output, batch_size=BATCH_SIZE, threads=1, **options)
    assert differing(folder, tmp_path, kinds) == []
    printed = capsys.readouterr().err
    assert "more.pt: 2 tensors of it ignored: criterion.weight, queue" in printed
    assert "wrapped.pt: 'backbone.' is dropped from the names and 1 tensor of it ignored: loss.w" in printed
    manifest = json.loads((tmp_path / "lightning.npy.run/manifest.json").read_text())
    assert manifest["run"]["weights"].endswith(IGNORED)
    assert manifest["run"]["ignore_keys"] == ["loss.*"]


@pytest.mark.launch
def test_two_ranks_have_the_same_and_so_have_split_and_offloaded_models(folder: Path, tmp_path: Path) -> None:
    held = {f"backbone.{name}": tensor for name, tensor in checkpointed.trained().state_dict().items()}
    save_file({**held, "loss.weight": torch.ones(2)}, tmp_path / "wrapped.bin")
    weights = {"weights": str(tmp_path / "wrapped.bin"), "strip_prefix": "backbone.", "ignore_keys": ["loss.*"]}
    split = {**PLAIN, "model_parallel": 2, "pipeline_stages": 2, "micro_batches": 1}
    jobs = {
        "split": {**split, **weights},
        "index": {**split, "weights": str(folder / "pytorch_model.bin.index.json")},
        "offloaded": {**PLAIN, **weights, "offload": "disk"},
    }
    kinds = json.loads((folder / "kinds.json").read_text())
    same = (
        "lightning",
        "more.pt",
        "double.pt",
        "normed",
        "old.bin",
        "script.ptl",
        "program.pt",
        "open.model",
    )
    (tmp_path / "kinds.json").write_text(json.dumps(jobs | {name: kinds[name] for name in same}))
    shutil.copy(folder / "rows.npy", tmp_path)
    outcome = run([*LAUNCHERS["mpirun-2"], *python(), PROGRAMS / "kinds.py", tmp_path, tmp_path], tmp_path)
    assert outcome.code == 0, outcome.output
    assert differing(folder, tmp_path, same) == []
    assert outcome.output.count("more.pt: 2 tensors of it ignored") == 1  # by rank 0 alone
    expected = np.load(folder / "expected-wrapped.pt.npy").tobytes()
    assert [name for name in jobs if np.load(tmp_path / f"{name}.npy").tobytes() != expected] == []
    for name in ("split", "offloaded", "lightning"):
        manifest = json.loads((tmp_path / f"{name}.npy.run/manifest.json").read_text())
        assert manifest["run"]["weights"].endswith(IGNORED), name


def test_parameters_that_get_their_shapes_from_the_file(tmp_path: Path) -> None:
    layer, lazy = nn.Linear(checkpointed.WIDTH, 4), nn.LazyLinear(4)
    torch.save(layer.state_dict(), tmp_path / "lazy.pt")
    load_weights(lazy, WeightsFile(str(tmp_path / "lazy.pt")))
    assert torch.equal(lazy.weight, layer.weight)


def test_inspect_and_plan_read_files_as_a_job_does(folder: Path, tmp_path: Path) -> None:
    words = ["checkpointed:plain", "--weights", "wrapped.pt", "--strip-prefix", "backbone."]
    outcome = run_here("inspect", *words, "--ignore-keys", "loss.*", folder=folder)
    assert (outcome.code, "of the file: loss.w" in outcome.output) == (0, True), outcome.output
    outcome = run_here("inspect", "script.jit", "--trust-pickle", folder=folder)
    assert (outcome.code, "TorchScript" in outcome.output) == (0, True), outcome.output
    job = ["--data", "rows.npy", "--output", tmp_path / "p.npy", "--memory-per-rank", "1G"]
    outcome = run_here("plan", "--model", "script.jit", "--trust-pickle", *job, folder=folder)
    assert (outcome.code, "the layers of script.jit are not accessible" in outcome.output) == (0, True), outcome.output
    outcome = run_here("plan", "--model", "nosuffix", *job, folder=folder)
    assert_refused(outcome, 65, "--model nosuffix is a state dict, a checkpoint or a pickled module")


FITS = "All of the model's names are in it after 'net.': --strip-prefix net. --ignore-keys 'loss.*'"
# of weights: (exit code, what is said of it, the options)
REFUSED: dict[str, tuple[int, str, list[str]]] = {
    "two alike": (65, "holds the same tensors several times: model, model_ema.", ["model_ema.pt"]),
    "none is usual": (65, "of which model_state, ema, best.params_ema could be meant", ["model_state.pt"]),
    "no such entry": (65, "--weights-key emma: ", ["model_state.pt", "--weights-key", "emma"]),
    "no entries": (65, "safe.bin has no entries, only tensors", ["safe.bin", "--weights-key", "model"]),
    "wrapped": (65, "--strip-prefix backbone. --ignore-keys 'loss.*'", ["wrapped.pt"]),
    "no name has it": (65, "unexpected 0.weight, 0.bias", ["nosuffix", "--strip-prefix", "backbone."]),
    "one too many": (65, "unexpected queue. Where the model", ["more.pt", "--ignore-keys", "criterion.*"]),
    "a missing one": (65, "missing 0.weight. ", ["missing.pt", "--ignore-keys", "*"]),
    "double": (65, "0.weight is float64 in it and float32 in the model", ["double.pt"]),
    "complex": (65, "0.weight is complex64 in it", ["complex.pt"]),
    "rounded twice": (65, "float64 in it and bfloat16", ["double.pt", "--model-args", '{"dtype": "bfloat16"}']),
    "TorchScript": (65, "is a TorchScript model. It is a complete model: --model script.jit", ["script.jit"]),
    "a program": (65, "is a program of torch.export. It is a complete model", ["program.pt"]),
    "ONNX": (65, "is an ONNX model. It is a complete model", ["open.model"]),
    "a folder": (65, "is a folder. Name the file", ["."]),
    "a pickle": (65, "is a pickle that torch.save has not written", ["plain.pkl"]),
    "no prefix": (64, "--strip-prefix must be text", ["nosuffix", "--strip-prefix", ""]),
    "two in one": (
        65,
        "first.weight and second.weight are one tensor in the model and two different ones",
        ["untied.pt", "--model", "checkpointed:Tied"],
    ),
    "several for one": (65, "step (3,) instead of ()", ["counters.pt", "--model", "checkpointed:Counter"]),
    "too large": (65, "places is int64 in it and int32", ["large.pt", "--model", "checkpointed:Counter"]),
    "no extra state": (65, "missing _extra_state", ["bare.pt", "--model", "checkpointed:Scaled"]),
    "extra state": (
        65,
        "the model keeps _extra_state beside its weights",
        ["bare.safetensors", "--model", "checkpointed:Scaled", "--offload", "disk"],
    ),
    "offloaded": (64, "--offload disk reads safetensors, not nosuffix", ["nosuffix", "--offload", "disk"]),
    "cut safetensors": (65, "cut.safetensors cannot be read: it is cut short: 1000 bytes of", ["cut.safetensors"]),
    "unknown dtype": (65, "w is of dtype C128, which PyTorch cannot hold", ["complex.safetensors"]),
    "a factory that reads": (
        64,
        "--model stack:module_from_file reads --weights itself",
        ["nosuffix", "--model", "stack:module_from_file", "--model-args", '{"layers": 1}', "--weights-key", "a"],
    ),
    "a module that fails": (65, "its module raised ZeroDivisionError", ["nosuffix", "--model", "checkpointed:Fails"]),
}


@pytest.fixture(scope="module")
def bad_files(folder: Path) -> Path:
    """Beside the good ones."""
    state = checkpointed.trained().state_dict()
    torch.save(dict(list(state.items())[1:]), folder / "missing.pt")
    (folder / "plain.pkl").write_bytes(pickle.dumps(state))
    torch.save(state | {"0.weight": state["0.weight"].to(torch.complex64)}, folder / "complex.pt")
    untied = checkpointed.Tied().state_dict()
    untied["second.weight"] = untied["first.weight"] + 1
    torch.save(untied, folder / "untied.pt")
    torch.save({"step": torch.arange(3), "places": torch.zeros(3)}, folder / "counters.pt")
    torch.save({"step": torch.tensor(1), "places": torch.arange(3) << 40}, folder / "large.pt")
    bare = {name: t for name, t in checkpointed.Scaled().state_dict().items() if not name.startswith("_")}
    torch.save(OrderedDict(bare), folder / "bare.pt")
    save_file(bare, folder / "bare.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "safe.bin").read_bytes()[:1000])
    header = json.dumps({"w": {"dtype": "C128", "shape": [1], "data_offsets": [0, 16]}}).encode()
    (folder / "complex.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_weights_are_refused(case: str, bad_files: Path, tmp_path: Path) -> None:
    code, says, (weights, *options) = REFUSED[case]
    model = [] if "--model" in options else ["--model", "checkpointed:plain"]
    command = [*model, "--weights", weights, "--data", "rows.npy", "--output", tmp_path / "p.npy", *options]
    assert_refused(predict_here(*command, folder=bad_files), code, says)


def test_what_lightning_saves_is_refused_with_the_way(folder: Path, tmp_path: Path) -> None:
    command = ["--model", "checkpointed:classifier", "--weights", TESTS / "data/lightning.ckpt"]
    outcome = predict_here(*command, "--data", folder / "rows.npy", "--output", tmp_path / "p.npy", folder=folder)
    assert_refused(outcome, 65, FITS)

"""Checkpoints and model files as people have them, told by content, against what PyTorch makes of them."""

import gzip
import json
import pickle
import shutil
import struct
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path

import checkpointed
import joblib
import numpy as np
import pytest
import torch
from launch import LAUNCHERS, TESTS, Outcome, predict_here, run, run_here
from reference import random_rows
from safetensors.torch import save_file, save_model
from torch import nn

import runner
from runner.models.weights import WeightsFile, load_weights

NUM_ROWS, BATCH_SIZE = 70, 32
PLAIN = {"model": "checkpointed:plain"}
IGNORED = "without 1 tensor of the file: loss.weight"


def predict(model: Callable[..., torch.Tensor], rows: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model(batch).float() for batch in rows.split(BATCH_SIZE)]).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, `kinds.json` with the options of each, and what must come out of it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    np.save(folder / "rows.npy", random_rows(NUM_ROWS, checkpointed.WIDTH))
    rows = torch.from_numpy(np.load(folder / "rows.npy"))
    torch.set_num_threads(1)
    model = checkpointed.trained()
    state, expected = model.state_dict(), predict(model, rows)
    other = checkpointed.plain(seed=3).state_dict()
    kinds: dict[str, tuple[dict[str, object], np.ndarray]] = {}

    def add(name: str, content: object = None, **options: object) -> None:
        if content is not None:
            torch.save(content, folder / name)
        kinds[name] = {**PLAIN, "weights": str(folder / name), **options}, expected

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": tensor for name, tensor in state.items()}

    # suffixes
    add("pytorch_model.bin", state)
    add("best.pth.tar", {"epoch": 3, "arch": "plain", "state_dict": state, "best_acc1": torch.tensor(0.9)})
    add("last.ckpt", {"state_dict": under("model."), "pytorch-lightning_version": "2.6.6", "loops": {}})
    add("nosuffix", state)
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    add("old.bin")
    save_model(model, str(folder / "safe.bin"))
    add("safe.bin")
    for number, part in enumerate((list(state)[:3], list(state)[3:])):
        torch.save({name: state[name] for name in part}, folder / f"part-{number}.bin")
    places = {name: f"part-{int(position >= 3)}.bin" for position, name in enumerate(state)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"x": 1}, "weight_map": places}))
    add("pytorch_model.bin.index.json")
    # entries
    several = {"model_state": state, "ema": other, "best": {"params_ema": state}, "list": [other, state]}
    add("model_state.pt", several, weights_key="model_state")
    add("params_ema.pt", several, weights_key="best.params_ema")
    add("list.pt", several, weights_key="list.1")
    add("model_ema.pt", {"model": other, "model_ema": state}, weights_key="model_ema")
    # names
    loss = {"loss.w": torch.ones(2)}
    add("wrapped.pt", under("backbone.") | loss, strip_prefix="backbone.", ignore_keys=["loss.*"])
    add("compiled.pt", under("module._orig_mod.") | loss, strip_prefix="module.", ignore_keys="loss.*")
    swa = {"n_averaged": torch.tensor(3), **under("module.")}
    add("averaged.pt", swa, strip_prefix="module.", ignore_keys=["n_averaged"])
    add("more.pt", state | {"criterion.weight": torch.ones(4), "queue": torch.ones(9)}, ignore_keys="criterion.*,queue")
    # dtypes
    exact = checkpointed.trained(torch.float16)
    add("half.pt", exact.state_dict())
    kinds["half.pt"] = kinds["half.pt"][0], predict(exact.float(), rows)
    finer = checkpointed.trained(torch.float64)
    nn.init.normal_(finer[0].weight)  # values that float32 does not have
    add("double.pt", finer.state_dict(), dtype="float32")
    kinds["double.pt"] = kinds["double.pt"][0], predict(finer.float(), rows)
    add("rounded.pt", state, dtype="bfloat16")
    kinds["rounded.pt"] = (
        kinds["rounded.pt"][0],
        predict(checkpointed.trained(torch.bfloat16), rows.to(torch.bfloat16)),
    )
    # modules that load in ways of their own
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = checkpointed.normed(old=True)
    for name, module in {"normed": old, "Scaled": checkpointed.Scaled(3.0), "Tied": checkpointed.Tied()}.items():
        torch.save(module.state_dict(), folder / f"{name}.pt")
        options = {"model": f"checkpointed:{name}", "weights": str(folder / f"{name}.pt")}
        kinds[name] = options, predict(module, rows)
    # what Lightning's own trainer has saved
    path = TESTS / "data/lightning.ckpt"
    trained, held = checkpointed.classifier(), torch.load(path)["state_dict"]
    trained.load_state_dict({n.removeprefix("net."): t for n, t in held.items() if n.startswith("net.")})
    names = {"strip_prefix": "net.", "ignore_keys": ["loss.*"]}
    options = {"model": "checkpointed:classifier", "weights": str(path), **names}
    kinds["lightning"] = options, predict(trained, rows)

    # whole models, none of them under its usual suffix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(model)
        for name in ("script.jit", "script.ts", "script.torchscript", "script.pth", "script"):
            torch.jit.save(script, folder / name, _extra_files={"models/labels.json": "{}"})
        script._save_for_lite_interpreter(str(folder / "script.ptl"))
        open_size = {0: torch.export.Dim("batch", min=1)}
        program = torch.export.export(model, (rows[:2],), dynamic_shapes=(open_size,))
        torch.export.save(program, folder / "program.pt2")
        torch.onnx.export(
            model, (rows[:2],), folder / "open.onnx", dynamic_shapes=(open_size,), external_data=False, verbose=False
        )
    (folder / "program.pt2").rename(folder / "program.pt")
    (folder / "open.onnx").rename(folder / "open.model")
    for path in sorted(folder.glob("script*")):
        kinds[path.name] = {"model": str(path)}, expected
    kinds["program.pt"] = {"model": str(folder / "program.pt")}, predict(program.module(), rows)
    kinds["open.model"] = {"model": str(folder / "open.model")}, expected

    (folder / "kinds.json").write_text(json.dumps({name: options for name, (options, _) in kinds.items()}))
    for name, (_, array) in kinds.items():
        np.save(folder / f"expected-{name}.npy", array)
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
    assert "more.pt: 2 tensors of it are ignored: criterion.weight, queue" in printed
    assert "wrapped.pt: 'backbone.' is dropped from the names and 1 tensor of it is ignored: loss.w" in printed
    manifest = json.loads((tmp_path / "lightning.npy.run/manifest.json").read_text())
    assert manifest["run"]["weights"].endswith(IGNORED)
    assert manifest["run"]["ignore_keys"] == ["loss.*"]


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
    outcome = run([*LAUNCHERS["mpirun-2"], sys.executable, TESTS / "jobs/kinds.py", tmp_path, tmp_path], tmp_path)
    assert outcome.code == 0, outcome.output
    assert differing(folder, tmp_path, same) == []
    assert outcome.output.count("more.pt: 2 tensors of it are ignored") == 1  # by rank 0 alone
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
    outcome = run_here("inspect", "script.jit", folder=folder)
    assert (outcome.code, "TorchScript" in outcome.output) == (0, True), outcome.output
    job = ["--data", "rows.npy", "--output", tmp_path / "p.npy", "--memory-per-rank", "1G"]
    outcome = run_here("plan", "--model", "script.jit", *job, folder=folder)
    assert (outcome.code, "the layers of script.jit cannot be taken apart" in outcome.output) == (0, True), (
        outcome.output
    )
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
    "TorchScript": (65, "is a TorchScript model. It is a whole model: --model script.jit", ["script.jit"]),
    "a program": (65, "is a program of torch.export. It is a whole model", ["program.pt"]),
    "ONNX": (65, "is an ONNX model. It is a whole model", ["open.model"]),
    "a folder": (65, "is a folder. Name the file", ["."]),
    "a pickle": (65, "is a pickle that torch.save has not written", ["plain.pkl"]),
    "no prefix": (64, "--strip-prefix must be text", ["nosuffix", "--strip-prefix", ""]),
    "two in one": (
        65,
        "first.weight and second.weight are one tensor in the model and two unlike ones",
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
        "which --model stack:module_from_file reads itself",
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


def write_others(folder: Path) -> dict[str, str]:
    """Files that are no models here, and what must be said of each."""
    rows = np.zeros((3, 4), np.float32)
    torch.save(checkpointed.trained().state_dict(), folder / "state.pt")
    save_file({"w": torch.ones(3)}, folder / "weights.safetensors")
    np.savez(folder / "arrays.npz", rows=rows)
    (folder / "cloned").mkdir()
    (folder / "cloned/config.json").write_text("{}")
    (folder / "cloned/model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    import h5py

    with h5py.File(folder / "model.h5", "w") as file:
        file["weights"] = rows
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(folder / "model.h5", "model.weights.h5")
    joblib.dump({"rows": rows}, folder / "forest.joblib")
    joblib.dump({"rows": rows}, folder / "small.joblib", compress=3)
    with gzip.open(folder / "state.pt.gz", "wb") as packed:
        packed.write((folder / "state.pt").read_bytes())
    with tarfile.open(folder / "state.tar", "w") as tar:
        tar.add(folder / "state.pt", "inside.pt")
    (folder / "saved_model").mkdir()
    (folder / "saved_model/saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (folder / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    (folder / "annexed.pt").write_text("/annex/objects/SHA256E-s3--00.pt\n")
    (folder / "page.pt").write_text("\n<!DOCTYPE html><html><body>Sign in</body></html>")
    (folder / "empty.pt").touch()
    (folder / "half.pt").write_bytes((folder / "state.pt").read_bytes()[:2000])
    (folder / "llama.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (folder / "model.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3")
    for name in ("net.mindir", "net.engine", "net.pdmodel", "net.mlmodel"):
        (folder / name).write_bytes(b"\x0a\x00\x01\x02")
    return {
        "state.pt": "is a state dict, a checkpoint or a pickled module, as torch.save writes it. It needs the code",
        "weights.safetensors": "is a safetensors file, which holds weights without a model. It needs the code",
        "arrays.npz": "is a file of NumPy arrays. A factory of yours can read it",
        "model.h5": "is an HDF5 file, as Keras writes models and weights. Export it to ONNX: keras.",
        "model.keras": "is a model of Keras. Export it to ONNX: keras.models.load_model('model.keras')",
        "forest.joblib": "as scikit-learn's models are saved. A factory of yours",
        "small.joblib": "is a file of joblib, as scikit-learn's models are saved",
        "state.pt.gz": "is compressed by gzip. Unpack it",
        "state.tar": "is a tar archive of inside.pt. Unpack it",
        "saved_model": "is a SavedModel folder of TensorFlow. Export it to ONNX with tf2onnx: python -m "
        "tf2onnx.convert --saved-model saved_model --output",
        "cloned": "--model cloned/model.safetensors is a Git LFS pointer, not the file",
        "pointer.pt": "is a Git LFS pointer, not the file. Fetch the file: git lfs pull",
        "annexed.pt": "is a git-annex pointer, not the file",
        "page.pt": "is a page of HTML, not the file",
        "empty.pt": "is an empty file",
        "half.pt": "is a zip archive whose end is missing",
        "llama.gguf": "is a GGUF model of llama.cpp. Take the Hugging Face folder",
        "model.tflite": "is a TensorFlow Lite model. Export it to ONNX with tf2onnx",
        "net.mindir": "is a MindIR model of MindSpore, by its name. Export the network to ONNX: mindspore.export",
        "net.engine": "is an engine of TensorRT, by its name, built for one kind of GPU",
        "net.pdmodel": "is a model of PaddlePaddle, by its name. Export it to ONNX with paddle2onnx",
        "net.mlmodel": "is a Core ML model, by its name",
    }


def test_other_files_are_named_with_the_way(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", random_rows(3, 4))
    for name, says in write_others(tmp_path).items():
        outcome = predict_here("--model", name, "--data", "rows.npy", "--output", "p.npy", folder=tmp_path)
        assert_refused(outcome, 65, f"--model {name} {says}" if says.startswith("is") else says)
        assert_refused(run_here("inspect", name, folder=tmp_path), 65, says)


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", random_rows(3, 4))
    says = {
        "stack": (64, "--model 'stack' is not of the form package.module:name, such as my_model:build, and no file"),
        "some/model": (65, "--model some/model: No such file or folder. Nothing is downloaded"),
        "stack.py:build": (64, "--model 'stack.py:build' names a file; a module's name is 'stack'"),
        "stack:": (64, "--model 'stack:' is not of the form package.module:name"),
        "model.bin": (65, "--model model.bin: No such file or folder"),
    }
    for name, (code, words) in says.items():
        outcome = predict_here("--model", name, "--data", "rows.npy", "--output", "p.npy", folder=tmp_path)
        assert_refused(outcome, code, words)


def assert_refused(outcome: Outcome, code: int, says: str) -> None:
    assert (outcome.code, outcome.output.count("runner: error")) == (code, 1), outcome.output
    assert says in outcome.output, outcome.output
    assert "Traceback" not in outcome.output or "ZeroDivisionError" in outcome.output

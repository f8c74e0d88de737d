"""Model files that are told by their content, and those that are no models here, each with the way to use it."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import checkpointed
import joblib
import numpy as np
import torch
from checkpoint_files import assert_refused
from launch import predict_here, run_here
from reference import random_rows
from safetensors.torch import save_file


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

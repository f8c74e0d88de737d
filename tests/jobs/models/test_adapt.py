"""Another dtype, another memory format, compilation: what a plain loop gives that does the same."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import LAUNCHERS, environment, predict_command, predict_here, run
from reference import random_rows

NUM_ROWS = 197


def predict(folder: Path, output: str, *options: str, launcher: str, **variables: str) -> np.ndarray:
    command = ["--model", "zoo:Pixels", "--data", "d.npy", "--output", output, *options]
    if launcher == "here":
        outcome = predict_here(*command, folder=folder)
    else:  # by itself, torch.compile starts a process for each CPU to compile with, and compiles headers for later
        fewer = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0"}
        env = environment(**fewer, **variables) if "--compile" in options else environment()
        outcome = run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder, timeout=400, env=env)
    assert outcome.code == 0, outcome.output
    return np.load(folder / output)


@pytest.fixture
def images(tmp_path: Path) -> torch.Tensor:
    torch.set_num_threads(1)
    rows = random_rows(NUM_ROWS, 3, 6, 5)
    np.save(tmp_path / "d.npy", rows)
    return torch.from_numpy(rows)


@pytest.mark.parametrize("launcher", ["here", "mpirun-3"])
def test_dtype(launcher: str, images: torch.Tensor, tmp_path: Path) -> None:
    model = zoo.Pixels().eval().bfloat16()
    with torch.inference_mode():
        expected = torch.cat([model(batch.bfloat16()).float() for batch in images.split(32)]).numpy()
    found = predict(tmp_path, "p.npy", "--dtype", "bfloat16", launcher=launcher)
    assert found.dtype == np.float32  # which holds bfloat16 exactly
    assert found.tobytes() == expected.tobytes()


def test_channels_last(images: torch.Tensor, tmp_path: Path) -> None:
    model = zoo.Pixels().eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        batches = [batch.contiguous(memory_format=torch.channels_last) for batch in images.split(32)]
        expected = torch.cat([model(batch).contiguous() for batch in batches]).numpy()
    assert predict(tmp_path, "p.npy", "--channels-last", launcher="mpirun-2").tobytes() == expected.tobytes()


@pytest.mark.timeout(450)
def test_compiled_once_for_all_batch_sizes_and_for_a_later_job(images: torch.Tensor, tmp_path: Path) -> None:
    model = zoo.Pixels().eval()
    with torch.inference_mode():
        expected = model(images).numpy()
    cache = tmp_path / "cache"
    found = predict(tmp_path, "two.npy", "--compile", launcher="mpirun-2", TORCHINDUCTOR_CACHE_DIR=str(cache))
    assert np.allclose(found, expected, atol=1e-6)
    report = json.loads((tmp_path / "two.npy.run/report.json").read_text())
    assert report["canary"] == "equal"  # each rank has compiled it
    host = socket.gethostname()
    assert {folder.name for folder in cache.iterdir()} == {f"{host}-0", f"{host}-1"}
    first = {path: path.stat().st_mtime_ns for path in (cache / f"{host}-0").rglob("*.so")}
    assert first
    again = predict(tmp_path, "again.npy", "--compile", launcher="alone", TORCHINDUCTOR_CACHE_DIR=str(cache))
    assert np.allclose(again, expected, atol=1e-6)
    assert {path: path.stat().st_mtime_ns for path in (cache / f"{host}-0").rglob("*.so")} == first


def test_refused_where_there_is_no_module(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(5, 64))
    (tmp_path / "some.onnx").write_text("of ONNX by its name")
    for model in ("stack:OnDevice", "some.onnx"):
        command = ["--model", model, "--data", "d.npy", "--output", "p.npy", "--channels-last"]
        if model == "stack:OnDevice":
            outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
        else:
            outcome = predict_here(*command, folder=tmp_path)
        assert (outcome.code, "--channels-last works on an nn.Module" in outcome.output) == (64, True), outcome.output
        assert outcome.output.count("runner: error") == 1

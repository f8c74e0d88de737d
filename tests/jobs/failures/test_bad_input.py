"""Bad input gives one clear message and the exit code, before any long work, and leaves nothing half-written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import mpirun, predict_command, predict_here, run
from reference import random_rows

from runner.cli.main import main

GOOD = {"--model": "zoo:mlp", "--data": "d.npy", "--output": "p.npy", "--batch-size": "32"}

# name: (exit code, what the message must contain, the options that differ from GOOD; None leaves one out)
CASES: dict[str, tuple[int, list[str], dict[str, str | None]]] = {
    "no such data": (65, ["no.npy: No such file"], {"--data": "no.npy"}),
    "data is no npy": (65, ["text.npy is not a .npy file"], {"--data": "text.npy"}),
    "empty data file": (65, ["empty.npy is not a .npy file"], {"--data": "empty.npy"}),
    "truncated data": (65, ["short.npy is truncated", "64128 bytes"], {"--data": "short.npy"}),
    "object dtype": (65, ["objects.npy is of dtype object"], {"--data": "objects.npy"}),
    "text dtype": (65, ["words.npy is of dtype <U3"], {"--data": "words.npy"}),
    "single value": (65, ["single value"], {"--data": "scalar.npy"}),
    "data of another suffix": (64, ["--data 'd.dat' must end in .npy"], {"--data": "d.dat"}),
    "data that is not there": (65, ["there is no such file or folder; did you mean folder.npy?"], {"--data": "folder"}),
    "data in capitals": (64, ["Suffixes are in small letters: rename it"], {"--data": "D.NPY"}),
    "one image": (64, ["For images, give the folder that holds them"], {"--data": "one.jpg"}),
    "pickled data": (64, ["Save its rows with numpy.save"], {"--data": "rows.pkl"}),
    "columns of which one is text": (
        65,
        ["--keep id leaves out the rest, beside the predictions; --stack makes one matrix"],
        {"--data": "ids.csv"},
    ),
    "no data": (64, ["--data is missing"], {"--data": None}),
    "no model": (64, ["--model is missing"], {"--model": None}),
    "no output": (64, ["--output is missing"], {"--output": None}),
    "model without colon": (64, ["'zoo' is not of the form"], {"--model": "zoo"}),
    "no such module": (65, ["nowhere:mlp", "No module named 'nowhere'"], {"--model": "nowhere:mlp"}),
    "module that fails": (65, ["broken:mlp", "ZeroDivisionError"], {"--model": "broken:mlp"}),
    "no such factory": (65, ["zoo has no attribute 'resnet'"], {"--model": "zoo:resnet"}),
    "factory is a number": (65, ["not a function or class"], {"--model": "zoo:NUMBER"}),
    "factory raises": (65, ["--model zoo:raises raised RuntimeError: no such arch"], {"--model": "zoo:raises"}),
    "factory returns a list": (65, ["returned a list, not a torch.nn.Module or"], {"--model": "zoo:not_a_module"}),
    "unknown factory argument": (
        64,
        ["--model zoo:mlp has no parameter 'widht', 'width' is the nearest. It has width, seed"],
        {"--model-args": '{"widht": 3}'},
    ),
    "no factory argument": (64, ["needs the arguments what: give --model-args"], {"--model": "zoo:Wrong"}),
    "model args are no JSON": (64, ["--model-args is not JSON"], {"--model-args": "{width: 3}"}),
    "model args are a list": (64, ["must be a JSON object"], {"--model-args": "[3]"}),
    "no such weights": (65, ["no.pt: no such file"], {"--weights": "no.pt"}),
    "weights that are a folder": (65, ["folder.npy is a folder"], {"--weights": "folder.npy"}),
    "damaged weights": (65, ["text.pt is text that begins with"], {"--weights": "text.pt"}),
    "damaged safetensors": (65, ["text.safetensors is text that"], {"--weights": "text.safetensors"}),
    "weights that need code": (
        65,
        ["whole.pt is not a plain state dict: it holds objects of torch.nn.modules.container.Sequential, and not only"],
        {"--weights": "whole.pt"},
    ),
    "weights with other keys": (65, ["holds keys epoch, generator", "state_dict"], {"--weights": "nested.pt"}),
    "weights of another shape": (
        65,
        ["of another shape 0.bias (99,) instead of (16,)"],
        {"--weights": "reshaped.pt"},
    ),
    "missing and unexpected": (65, ["missing 0.bias;", "unexpected 9.bias."], {"--weights": "renamed.pt"}),
    "no output folder": (73, ["there is no folder nowhere"], {"--output": "nowhere/p.npy"}),
    "output is a folder": (73, ["is a folder"], {"--output": "folder.npy"}),
    "output exists": (73, ["there.npy exists already", "--overwrite"], {"--output": "there.npy"}),
    "output of another suffix": (64, ["must end in .npy"], {"--output": "p.dat"}),
    "time limit": (64, ["--time-limit '1 hour' must be H:MM:SS, such as 2:30:00, or a"], {"--time-limit": "1 hour"}),
    "no time": (64, ["--time-limit must be a whole number of 1 or more, not 0"], {"--time-limit": "0:00:00"}),
    "batch size 0": (64, ["--batch-size must be a whole number of 1 or more"], {"--batch-size": "0"}),
    "batch size a word": (64, ["invalid int value: 'all'"], {"--batch-size": "all"}),
    "chunk not a multiple": (64, ["--chunk-size 100", "96 and 128"], {"--chunk-size": "100"}),
    "unknown option": (64, ["unrecognized arguments: --batchsize=3"], {"--batchsize=3": ""}),
    "unknown device": (64, ["--device 'tpu' is not one of auto, cpu, cuda"], {"--device": "tpu"}),
    "unknown postprocess": (64, ["'softmx' is none of argmax, softmax, topk:K"], {"--postprocess": "softmx"}),
    "topk without a number": (64, ["whole number K"], {"--postprocess": "topk:many"}),
    "topk of too few classes": (65, ["needs at least 11 classes; the model gave 10"], {"--postprocess": "topk:11"}),
    "argmax of a vector": (
        65,
        ["needs an output of shape"],
        {"--postprocess": "argmax", "--model": "zoo:Identity", "--data": "flat.npy"},
    ),
    "no such preprocess": (65, ["zoo has no attribute 'scale'"], {"--preprocess": "zoo:scale"}),
    "preprocess fails": (
        65,
        ["--preprocess failed on row 0:"],
        {"--preprocess": "zoo:first_column", "--data": "flat.npy"},
    ),
    "float64 rows": (65, ["float64", "torch.float32", "--preprocess"], {"--data": "double.npy"}),
    "words as output": (65, ["with a str as 'words'"], {"--model": "zoo:Wrong", "--model-args": '{"what": "words"}'}),
    "no output at all": (65, ["gave a NoneType"], {"--model": "zoo:Wrong", "--model-args": '{"what": "nothing"}'}),
    "output without rows": (65, ["gave shape ()"], {"--model": "zoo:Wrong", "--model-args": '{"what": "no rows"}'}),
    "too few rows out": (65, ["gave shape (0, 8)"], {"--model": "zoo:Wrong", "--model-args": '{"what": "fewer rows"}'}),
    "no such config": (64, ["no.toml: No such file"], {"--config": "no.toml"}),
    "config is no TOML": (64, ["text.toml is not TOML"], {"--config": "text.toml"}),
    "unknown name in config": (64, ["unknown option 'bathc_size'"], {"--config": "typo.toml"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files of every kind."""
    folder = tmp_path_factory.mktemp("bad")
    rows = random_rows(2000, 8)
    np.save(folder / "d.npy", rows)
    np.save(folder / "there.npy", rows)
    np.save(folder / "double.npy", rows.astype(np.float64))
    np.save(folder / "flat.npy", rows[:, 0])
    np.save(folder / "scalar.npy", np.float32(3))
    np.save(folder / "objects.npy", np.array([None, 1]), allow_pickle=True)
    np.save(folder / "words.npy", np.array(["one", "two"]))
    (folder / "short.npy").write_bytes((folder / "d.npy").read_bytes()[:-1])
    (folder / "empty.npy").touch()
    (folder / "folder.npy").mkdir()
    for name in ("D.NPY", "d.dat", "one.jpg", "rows.pkl"):
        (folder / name).touch()
    (folder / "ids.csv").write_text("id,a,b\nx,1,2\n")
    for suffix in ("npy", "pt", "safetensors", "toml"):
        (folder / f"text.{suffix}").write_text("just some words, of no format at all\n" * 9)
    (folder / "typo.toml").write_text("bathc-size = 3\n")
    (folder / "broken.py").write_text("1 / 0\n")
    state = zoo.mlp().state_dict()
    torch.save(zoo.mlp(), folder / "whole.pt")
    torch.save({"epoch": 3, "generator": state}, folder / "nested.pt")
    torch.save(state | {"0.bias": torch.zeros(99)}, folder / "reshaped.pt")
    torch.save(
        {("9.bias" if name == "0.bias" else name): tensor for name, tensor in state.items()}, folder / "renamed.pt"
    )
    return folder


def options(changes: dict[str, str | None]) -> list[str]:
    return [word for key, value in (GOOD | changes).items() if value is not None for word in (key, value) if word]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def assert_one_message(text: str, messages: list[str]) -> None:
    assert text.count("runner: error") == 1, text
    message = text[text.index("runner: error") :]
    for part in messages:
        assert part in message
    assert "a bug of the runner" not in message


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, messages, changes = CASES[name]
    monkeypatch.chdir(folder)
    before = files(folder)
    assert main(["predict", *options(changes)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_message(captured.err, messages)
    assert files(folder) == before


@pytest.mark.parametrize("name", ["batch size 0", "no such data", "missing and unexpected"])
def test_refused_by_two_ranks_with_one_message(name: str, folder: Path) -> None:
    code, messages, changes = CASES[name]
    before = files(folder)
    outcome = run(predict_command(*options(changes), launcher=mpirun(2)), folder)
    assert outcome.code == code, outcome.output
    assert_one_message(outcome.output, messages)
    assert files(folder) == before


@pytest.mark.parametrize(
    ("name", "launcher"),
    [
        ("torchrun", ("torchrun", "--nproc-per-node", "2")),
        # which, like deepspeed, adds an option to the command
        ("torchrun", (sys.executable, "-m", "torch.distributed.launch", "--nproc-per-node", "2")),
        ("accelerate launch", ("accelerate", "launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2")),
    ],
)
def test_launchers_of_pytorch_start_no_mpi(name: str, launcher: tuple[str, ...], folder: Path) -> None:
    """Each process would do the whole job."""
    before = files(folder)
    outcome = run([*launcher, "-m", "runner", "predict", *options({})], folder)
    assert outcome.code != 0
    assert_one_message(outcome.output, [f"started by {name}, which starts no MPI: put mpirun -np N or"])
    assert files(folder) == before


def test_read_only_output_folder(folder: Path, read_only: Path) -> None:
    outcome = predict_here(*options({"--output": f"{read_only}/p.npy"}), folder=folder)
    assert outcome.code == 73, outcome.output
    assert "is not writable" in outcome.output
    assert outcome.output.count("runner: error") == 1


@pytest.mark.parametrize("launcher", [[], mpirun(3), ["horovodrun", "-np", "3"]], ids=["alone", "mpirun", "horovodrun"])
def test_forward_fails_on_one_rank(launcher: list[str], tmp_path: Path) -> None:
    rows = random_rows(1797, 8)
    rows[1700, 0] = 1000  # a row of the last rank
    np.save(tmp_path / "d.npy", rows)
    model = {"--model": "zoo:FailsAtRow", "--model-args": json.dumps({"value": 1000})}
    outcome = run(predict_command(*options(model), launcher=launcher), tmp_path)
    assert outcome.code == 65, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "failed on row 1700: ValueError: cannot digest this row" in outcome.output
    assert ("[rank 2 of 3 on " in outcome.output) == bool(launcher)
    assert not (tmp_path / "p.npy").exists()


def test_rows_of_changing_width(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    model = {"--model": "zoo:Wrong", "--model-args": json.dumps({"what": "wider"})}
    outcome = predict_here(*options(model), folder=tmp_path)
    assert outcome.code == 65
    assert "float32 (16,) per row for rows 0 to 31 and float32 (8,) for the first row" in outcome.output


def test_a_factory_that_differs_by_rank(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    outcome = run(predict_command(*options({"--model": "zoo:ByRank"}), launcher=mpirun(2)), tmp_path)
    assert outcome.code == 65, outcome.output
    assert "[rank 1 of 2 on " in outcome.output
    assert "builds a different model here than on rank 0" in outcome.output


def test_overwrite_replaces_only_when_whole(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    (tmp_path / "p.npy").write_text("the old one")
    assert predict_here(*options({"--overwrite": "", "--model": "zoo:raises"}), folder=tmp_path).code == 65
    assert (tmp_path / "p.npy").read_text() == "the old one"
    outcome = predict_here(*options({"--overwrite": ""}), folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").shape == (97, 10)

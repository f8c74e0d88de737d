"""Models whose layers come when they are called: the same bytes, in the memory of a layer."""

import json
import sys
from pathlib import Path

import numpy as np
import offloaded
import pytest
import torch
import transformers
from launch import Outcome, mpirun, predict_command, predict_here, run
from reference import random_rows
from safetensors.torch import save_file, save_model

from runner.core.text import byte_size
from runner.models.offload.streaming import stream

NUM_ROWS = 53
DATA = ["--data", "d.npy", "--chunk-size", "12"]
JOB = ["--model", "offloaded:build", "--weights", "w.safetensors", *DATA]
DISK = ["--offload", "disk"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows, and weights that do not begin where allocated ones do."""
    rows = random_rows(NUM_ROWS, offloaded.WIDTH)
    rows[:, 0] = np.arange(NUM_ROWS)
    np.save(tmp_path / "d.npy", rows)
    weights = {name: tensor for name, tensor in offloaded.build().state_dict().items() if name != "tied.weight"}
    for filling in ("", "x" * 8):
        save_file(weights, tmp_path / "w.safetensors", metadata={"filling": filling})
        begin = 8 + int.from_bytes((tmp_path / "w.safetensors").read_bytes()[:8], "little")
        if begin % 16:
            break
    assert begin % 16
    return tmp_path


def predict(folder: Path, output: str, *options: str, ranks: int = 0) -> Outcome:
    command = [*JOB, "--output", output, *options]
    if not ranks:
        return predict_here(*command, folder=folder)
    return run(predict_command(*command, launcher=mpirun(ranks)), folder, timeout=180)


def run_of(folder: Path, output: str) -> dict[str, object]:
    """The fingerprint of the run that made an output."""
    found: dict[str, object] = json.loads((folder / f"{output}.run/ledger.jsonl").read_text().splitlines()[0])
    return found


@pytest.mark.parametrize(
    ("options", "ranks"), [(["--batch-size", "1"], 2), (["--batch-size", "6", "--dtype", "bfloat16"], 0)]
)
def test_the_bytes_are_those_of_the_usual_way(options: list[str], ranks: int, folder: Path) -> None:
    usual = predict(folder, "a.npy", *options)
    assert usual.code == 0, usual.output
    outcome = predict(folder, "b.npy", *options, *DISK, ranks=ranks)
    assert outcome.code == 0, outcome.output
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()
    assert run_of(folder, "a.npy") == run_of(folder, "b.npy")
    model_bytes = sum(parameter.nbytes for parameter in offloaded.build().parameters())
    assert (
        outcome.output.count(f"--offload disk: each batch reads {byte_size(model_bytes)} of weights from w.safet") == 1
    )
    assert "MiB/s" in outcome.output


@pytest.mark.parametrize("shards", ["5GB", "100KB"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_causal_model(tied: bool, shards: str, folder: Path) -> None:
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=200,
        tie_word_embeddings=tied,
    )  # fmt: skip
    transformers.LlamaForCausalLM(settings).save_pretrained(folder / "llama", max_shard_size=shards)
    np.save(folder / "t.npy", np.random.default_rng(0).integers(3, 200, (11, 7)))
    options = ["--model", "./llama", "--model-args", '{"max_new_tokens": 5}', "--data", "t.npy", "--batch-size", "4"]
    outcomes = [
        predict_here(*options, *more, "--output", name, folder=folder)
        for name, more in (("a.npy", []), ("b.npy", DISK))
    ]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    found = np.load(folder / "a.npy")
    assert found.shape == (11, 5)
    assert len(np.unique(found)) > 5
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()
    assert run_of(folder, "a.npy") == run_of(folder, "b.npy")
    assert "each batch, 5 times (once per new token), reads" in outcomes[1].output


def test_no_rank_holds_the_model(folder: Path) -> None:
    np.save(folder / "d.npy", random_rows(4, 2048))
    own_bytes, model_bytes = [], []
    for num_layers, launcher in ((2, []), (24, mpirun(2))):
        model = offloaded.Large(num_layers)
        save_model(model, folder / "w.safetensors")
        options = ["--model", "offloaded:Large", "--model-args", json.dumps({"num_layers": num_layers}), *DISK]
        options += ["--batch-size", "4", "--stateful", "keep"]  # its answer is its memory, never quite the same
        command = predict_command(*JOB, *options, "--output", f"{num_layers}.npy")
        outcome = run([*launcher, *command], folder, timeout=180)
        assert outcome.code == 0, outcome.output
        own_bytes.append(float(np.load(folder / f"{num_layers}.npy").max()))
        model_bytes.append(sum(parameter.nbytes for parameter in model.parameters()))
    assert own_bytes[1] - own_bytes[0] < 0.4 * (model_bytes[1] - model_bytes[0]), (own_bytes, model_bytes)


def test_a_file_that_is_written_to_ends_the_job_which_goes_on_without(folder: Path) -> None:
    arguments = json.dumps({"touch": 30.0, "file": str(folder / "w.safetensors")})
    options = ["--batch-size", "4", "--model-args", arguments]
    assert predict(folder, "a.npy", *options).code == 0
    outcome = predict(folder, "b.npy", *options, *DISK)
    assert outcome.code != 0
    assert "was modified while --offload disk read the weights from it" in outcome.output
    assert not (folder / "b.npy").exists()
    resumed = predict(folder, "b.npy", *options)
    assert resumed.code == 0, resumed.output
    assert json.loads((folder / "b.npy.run/report.json").read_text())["resumed_rows"] > 0
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()


def test_weights_in_memory_are_fetched_too() -> None:
    rows = torch.from_numpy(random_rows(5, offloaded.WIDTH))
    model = offloaded.build().eval()
    weights = {name: parameter.data for name, parameter in model.named_parameters(remove_duplicate=False)}
    with torch.inference_mode():
        expected = model(rows)
        stream(model, weights, torch.device("cpu"))
        assert torch.equal(model(rows), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_on_a_gpu(where: str, folder: Path) -> None:
    for output, more in (("a.npy", []), ("b.npy", ["--offload", where])):
        outcome = predict(folder, output, "--batch-size", "6", "--device", "cuda", *more)
        assert outcome.code == 0, outcome.output
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--offload", "tape"], 64, "--offload 'tape' is not one of memory, disk"),
        (["--offload", "memory"], 64, "on the CPU they are in memory anyway"),
        ([*DISK, "--weights", "w.pth"], 65, "--weights w.pth: no such file"),
        ([*DISK, "--weights", "none.safetensors"], 65, "--weights none.safetensors: no such file"),
        ([*DISK, "--compile"], 64, "--offload disk and --compile cannot be combined"),
        ([*DISK, "--share-weights"], 64, "--offload disk and --share-weights cannot be combined"),
        ([*DISK, "--model-parallel", "2"], 64, "--offload and --model-parallel cannot be combined"),
        ([*DISK, "--model", "offloaded:derived"], 65, "computes .half of its parameters when it is built"),
        ([*DISK, "--model", "offloaded:no_module"], 65, "gives a function; --offload is for nn.Modules"),
        ([*DISK, "--model", "offloaded:Large"], 65, "does not fit the model: missing layers.0.weight"),
    ],
)
def test_what_cannot_be(options: list[str], code: int, says: str, folder: Path) -> None:
    outcome = predict(folder, "p.npy", "--batch-size", "6", *options)
    assert outcome.code == code, outcome.output
    assert says in outcome.output
    assert outcome.output.count("runner: error") == 1, outcome.output


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("m.onnx", "--offload cannot split the layers of m.onnx"),
        ("offloaded:build", "--offload disk reads the layers from --weights PATH.safetensors, which is missing"),
    ],
)
def test_what_cannot_be_taken_apart(model: str, says: str, folder: Path) -> None:
    outcome = predict_here("--model", model, *DATA, *DISK, "--output", "p.npy", "--batch-size", "6", folder=folder)
    assert outcome.code == 64, outcome.output
    assert says in outcome.output


def test_without_accelerate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    outcome = predict(folder, "p.npy", "--batch-size", "6", *DISK)
    assert outcome.code == 64
    assert "--offload needs Accelerate: pip install 'horovod-inference-runner[offload]'" in outcome.output

"""Folders that Transformers has saved, against Transformers itself: small models with random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run
from transformer_folders import SMALL, SMALL_GPT, save

from runner.cli.main import main

NUM_ROWS, BATCH_SIZE, CHUNK_SIZE = 203, 8, 64


def write_tokens(folder: Path) -> list[list[int]]:
    """Token lists without 0, by which tests tell padding."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(1, 98, int(length)).tolist() for length in rng.integers(2, 40, NUM_ROWS)]
    pa.parquet.write_table(pa.table({"tokens": tokens}), folder / "d.parquet", row_group_size=50)
    return tokens


def predict(folder: Path, *options: str, launcher: str = "alone", data: str = "d.parquet") -> Outcome:
    command = ["--model", "./model", "--data", data, "--output", "p.npy", *options]
    command += ["--batch-size", str(BATCH_SIZE), "--chunk-size", str(CHUNK_SIZE)]
    if launcher == "alone":
        return predict_here(*command, folder=folder)
    return run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder)


def by_hand(tokens: list[list[int]], function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Row by row: without padding, so equal to what a batch gives but for rounding."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows = [torch.tensor([row]) for row in tokens]
        return torch.cat([function(row, torch.ones_like(row)) for row in rows]).numpy()


def test_sequence_classification(tmp_path: Path) -> None:
    model = save(tmp_path, "BertForSequenceClassification", num_labels=5, vocab_size=100, **SMALL)
    tokens = write_tokens(tmp_path)
    outcome = predict(tmp_path, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    expected = by_hand(tokens, lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits)
    assert expected.shape == (NUM_ROWS, 5)
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_embeddings(pooling: str, tmp_path: Path) -> None:
    model = save(tmp_path, "BertModel", vocab_size=100, **SMALL)
    tokens = write_tokens(tmp_path)
    outcome = predict(tmp_path, "--model-args", json.dumps({"pooling": pooling}))
    assert outcome.code == 0, outcome.output
    pick = {"mean": lambda h: h.mean(dim=1), "cls": lambda h: h[:, 0], "last": lambda h: h[:, -1]}[pooling]
    expected = by_hand(tokens, lambda ids, mask: pick(model(input_ids=ids, attention_mask=mask).last_hidden_state))
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-5)


def test_generation(tmp_path: Path) -> None:
    model = save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT)
    tokens = write_tokens(tmp_path)
    outcome = predict(tmp_path, "--model-args", '{"max_new_tokens": 7}', launcher="mpirun-2")
    assert outcome.code == 0, outcome.output

    def generate(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=7, do_sample=False, pad_token_id=99)
        return torch.nn.functional.pad(found[:, ids.shape[1] :], (0, 7 - (found.shape[1] - ids.shape[1])), value=99)

    predictions, expected = np.load(tmp_path / "p.npy"), by_hand(tokens, generate)
    assert predictions.shape == (NUM_ROWS, 7)
    assert (predictions == expected).all(axis=1).mean() > 0.98  # two tokens as likely as each other but for rounding
    assert len(np.unique(predictions)) > 5


def test_images_to_the_byte(tmp_path: Path) -> None:
    model = save(tmp_path, "ViTForImageClassification", image_size=16, patch_size=8, num_labels=4, **SMALL)
    pixels = np.random.default_rng(0).standard_normal((NUM_ROWS, 3, 16, 16), dtype=np.float32)
    np.save(tmp_path / "d.npy", pixels)
    outcome = predict(tmp_path, data="d.npy")
    assert outcome.code == 0, outcome.output
    torch.set_num_threads(1)
    with torch.inference_mode():
        batches = torch.from_numpy(pixels).split(BATCH_SIZE)
        expected = torch.cat([model(pixel_values=batch).logits for batch in batches]).numpy()
    assert np.load(tmp_path / "p.npy").tobytes() == expected.tobytes()


def test_sharded_and_in_bfloat16(tmp_path: Path) -> None:
    model = save(tmp_path, "BertModel", vocab_size=100, **SMALL).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert (tmp_path / "model/model.safetensors.index.json").exists()
    (tmp_path / "model/model.safetensors").unlink(missing_ok=True)
    tokens = write_tokens(tmp_path)
    outcome = predict(tmp_path, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    expected = by_hand(tokens, lambda i, m: model(input_ids=i, attention_mask=m).last_hidden_state.mean(dim=1).float())
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=0.1)


def test_bad_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def assert_refused(code: int, says: str, *options: str) -> None:
        capsys.readouterr()
        found = main(["predict", "--model", "./model", "--data", "d.parquet", "--output", "p.npy", *options])
        printed = capsys.readouterr().err
        assert (found, says in printed) == (code, True), printed
        assert printed.count("runner: error") == 1, printed

    monkeypatch.chdir(tmp_path)
    write_tokens(tmp_path)
    assert_refused(65, "No such file or folder")
    save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT)
    assert_refused(64, "max_new_tokens")
    shutil.rmtree(tmp_path / "model")
    save(tmp_path, "BertModel", vocab_size=100, **SMALL)
    config = json.loads((tmp_path / "model/config.json").read_text())
    cases = [
        ({"architectures": ["BertForSequenceClassification"]}, "lacks weights of BertForSequenceClassification: class"),
        ({"architectures": ["Bert2"]}, "Bert2 is not in Transformers"),
        ({"architectures": ["__name__"]}, "__name__ is not in Transformers"),
        ({"architectures": ["BertConfig"]}, "config.json names BertConfig, which is not a model of Transformers"),
        ({"architectures": "BertModel"}, "architectures must be a list of names, not 'BertModel'"),
        ({"architectures": [3]}, "architectures must be a list of names, not [3]"),
        ({"auto_map": ["own.Own"]}, "auto_map must be an object, not ['own.Own']"),
        (
            {"architectures": ["Own"], "auto_map": {"AutoModel": "own.Own"}},
            "which is not run. If you trust its author, allow it with --trust-code",
        ),
        ({"architectures": None}, "names no architecture"),
        ({"hidden_size": 48}, "cannot be loaded"),
    ]
    for change, says in cases:
        (tmp_path / "model/config.json").write_text(json.dumps(config | change))
        assert_refused(65, says)
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    says = "pooling 'sum' is not one of mean, mean_tokens, cls, last, max"
    assert_refused(64, says, "--model-args", '{"pooling": "sum"}')
    (tmp_path / "model/model.safetensors").write_bytes(b"nothing")
    outcome = predict(tmp_path)
    assert (outcome.code, "cannot be loaded" in outcome.output) == (65, True), outcome.output
    assert outcome.output.count("runner: error") == 1, outcome.output

"""Rows of text, through the tokenizer of a Hugging Face folder; and folders with code of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run
from transformer_folders import SMALL, SMALL_GPT, save, save_tokenizer, sentences

NUM_ROWS = 203


def predict(folder: Path, data: str, *options: str, launcher: str = "alone") -> Outcome:
    command = ["--model", "./model", "--data", data, "--output", "p.npy", "--batch-size", "8", *options]
    if launcher == "alone":
        return predict_here(*command, folder=folder)
    return run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder)


@pytest.mark.parametrize("data", ["d.txt", "d.parquet::text", "d.csv::text", "d.jsonl::text"])
def test_text_is_classified(data: str, tmp_path: Path) -> None:
    model = save(tmp_path, "BertForSequenceClassification", num_labels=5, vocab_size=100, **SMALL)
    tokenize_texts = save_tokenizer(tmp_path, pad_token="[PAD]")
    texts = sentences()
    (tmp_path / "d.txt").write_text("".join(f"{text}\n" for text in texts))
    table = pa.table({"id": np.arange(NUM_ROWS), "text": texts})
    pa.parquet.write_table(table, tmp_path / "d.parquet", row_group_size=50)
    table.to_pandas().to_csv(tmp_path / "d.csv", index=False)
    table.to_pandas().to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    outcome = predict(tmp_path, data, launcher="mpirun-2" if data == "d.txt" else "alone")
    assert outcome.code == 0, outcome.output
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows = [model(**tokenize_texts(text, return_tensors="pt")).logits for text in texts]
    assert np.allclose(np.load(tmp_path / "p.npy"), torch.cat(rows).numpy(), atol=1e-5)


def test_pairs_of_texts_and_a_limit(tmp_path: Path) -> None:
    model = save(tmp_path, "BertForSequenceClassification", num_labels=5, vocab_size=100, **SMALL)
    tokenize_texts = save_tokenizer(tmp_path, pad_token="[PAD]")
    first, second = sentences(0), sentences(1)
    pa.parquet.write_table(pa.table({"a": first, "id": np.arange(NUM_ROWS), "b": second}), tmp_path / "d.parquet")
    limit = ["--model-args", json.dumps({"max_length": 20})]
    outcome = predict(tmp_path, "d.parquet", "--columns", "a,b", *limit)
    assert outcome.code == 0, outcome.output
    with torch.inference_mode():
        inputs = [
            tokenize_texts(a, b, truncation=True, max_length=20, return_tensors="pt")
            for a, b in zip(first, second, strict=True)
        ]
        rows = [model(**given).logits for given in inputs]
    assert max(given["input_ids"].shape[1] for given in inputs) == 20
    assert np.allclose(np.load(tmp_path / "p.npy"), torch.cat(rows).numpy(), atol=1e-5)


def test_generation_from_text_with_a_tokenizer_that_cannot_pad(tmp_path: Path) -> None:
    model = save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT)
    tokenize_texts = save_tokenizer(tmp_path, eos_token="[EOS]")
    texts = sentences()
    (tmp_path / "d.txt").write_text("\n".join(texts))  # without an end of the last line
    outcome = predict(tmp_path, "d.txt", "--model-args", '{"max_new_tokens": 5}')
    assert outcome.code == 0, outcome.output
    found = np.load(tmp_path / "p.npy")
    assert found.shape == (NUM_ROWS, 5)
    for row in range(0, NUM_ROWS, 20):
        inputs = tokenize_texts(texts[row], return_tensors="pt")
        expected = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=99)
        assert found[row].tolist() == expected[0, inputs["input_ids"].shape[1] :].tolist()


def test_a_prompt_that_leaves_no_room_is_cut(tmp_path: Path) -> None:
    model = save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT, n_positions=24)
    tokenize_texts = save_tokenizer(tmp_path, eos_token="[EOS]")
    texts = [" ".join(["node"] * 100), "rank queue"]
    (tmp_path / "d.txt").write_text("\n".join(texts))
    outcome = predict(tmp_path, "d.txt", "--model-args", '{"max_new_tokens": 5}', "--truncate", "right")
    assert outcome.code == 0, outcome.output
    inputs = tokenize_texts(texts[0], truncation=True, max_length=19, return_tensors="pt")
    expected = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=99)
    assert np.load(tmp_path / "p.npy")[0].tolist() == expected[0, 19:].tolist()


def test_text_from_text(tmp_path: Path) -> None:
    model = save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT)
    tokenize_texts = save_tokenizer(tmp_path, eos_token="[EOS]")
    texts = sentences()
    (tmp_path / "d.txt").write_text("\n".join(texts))
    options = ["--model-args", '{"max_new_tokens": 5, "decode": true}', "--output", "p.jsonl"]
    outcome = predict(tmp_path, "d.txt", *options)
    assert outcome.code == 0, outcome.output
    found = [json.loads(line)["text"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(found) == NUM_ROWS
    for row in range(0, NUM_ROWS, 20):
        inputs = tokenize_texts(texts[row], return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=99)
        assert found[row] == tokenize_texts.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("postprocess", [None, "argmax"])
def test_tokens_are_classified(postprocess: str | None, tmp_path: Path) -> None:
    model = save(tmp_path, "BertForTokenClassification", num_labels=5, vocab_size=100, **SMALL)
    tokenize_texts = save_tokenizer(tmp_path, pad_token="[PAD]")
    texts = sentences()
    pa.parquet.write_table(pa.table({"id": np.arange(NUM_ROWS), "text": texts}), tmp_path / "d.parquet")
    options = ["--output", "p.parquet", "--keep", "id", *(["--postprocess", postprocess] if postprocess else [])]
    outcome = predict(tmp_path, "d.parquet::text", *options, launcher="alone" if postprocess else "mpirun-2")
    assert outcome.code == 0, outcome.output
    found = pa.parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert found["id"] == list(range(NUM_ROWS))
    with torch.inference_mode():
        for row, text in enumerate(texts):
            logits = model(**tokenize_texts(text, return_tensors="pt")).logits[0]
            assert len(found["predictions"][row]) == len(text.split())
            if postprocess is None:
                assert np.allclose(found["predictions"][row], logits.numpy(), atol=1e-5)
            else:
                assert np.mean(found["predictions"][row] == logits.argmax(dim=1).numpy()) > 0.9


def test_text_without_a_tokenizer(tmp_path: Path) -> None:
    save(tmp_path, "BertModel", vocab_size=100, **SMALL)
    (tmp_path / "d.txt").write_text("a\nb\n")
    outcome = predict(tmp_path, "d.txt")
    assert (outcome.code, outcome.output.count("has no tokenizer in it, which rows of text need")) == (65, 1), (
        outcome.output
    )
    command = ["--model", "zoo:mlp", "--data", "d.txt", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 65
    says = "It gets rows of text as a list of strings; a model that takes numbers needs --preprocess"
    assert says in outcome.output


OWN_CODE = """
import pathlib, torch
from transformers import PretrainedConfig, PreTrainedModel

pathlib.Path("ran").touch()

class OwnConfig(PretrainedConfig):
    model_type = "own"
    def __init__(self, width=8, **more):
        self.width = width
        super().__init__(**more)

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    main_input_name = "rows"
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.width, 3)
        self.post_init()
    def forward(self, rows, return_dict=True):
        return {"logits": self.layer(rows)}
"""


def test_code_in_a_folder_is_run_only_when_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    from own_code import OwnConfig, OwnModel

    OwnConfig.register_for_auto_class()
    OwnModel.register_for_auto_class("AutoModel")
    torch.manual_seed(0)
    model = OwnModel(OwnConfig()).eval()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "own_code.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    (tmp_path / "ran").unlink()
    rows = torch.randn(50, 8)
    np.save(tmp_path / "d.npy", rows.numpy())
    outcome = predict(tmp_path, "d.npy")
    assert (outcome.code, outcome.output.count("allow it with --trust-code")) == (65, 1), outcome.output
    assert not (tmp_path / "ran").exists()
    outcome = predict(tmp_path, "d.npy", "--trust-code", launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    with torch.inference_mode():
        assert np.allclose(np.load(tmp_path / "p.npy"), model(rows)["logits"].numpy(), atol=1e-6)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("columns", ["answer", "prompt,answer"])
def test_texts_are_scored(columns: str, tmp_path: Path) -> None:
    """By the logarithm of their probability, or of that of a continuation."""
    model = save(tmp_path, "GPT2LMHeadModel", **SMALL_GPT)
    tokenize_texts = save_tokenizer(tmp_path, eos_token="[EOS]")
    prompts, answers = sentences(1, 40), sentences(2, 40)
    pa.parquet.write_table(pa.table({"prompt": prompts, "answer": answers}), tmp_path / "d.parquet")
    outcome = predict(tmp_path, "d.parquet", "--columns", columns, "--model-args", '{"score": true}')
    assert outcome.code == 0, outcome.output
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        given = tokenize_texts(prompt)["input_ids"] if "prompt" in columns else []
        follows = tokenize_texts(answer)["input_ids"]
        with torch.inference_mode():
            likely = model(torch.tensor([given + follows])).logits[0].log_softmax(dim=1)
        first = max(len(given), 1)  # of the first token of all nothing is said
        tokens = (given + follows)[first:]
        expected.append(sum(float(likely[first + i - 1, token]) for i, token in enumerate(tokens)))
    assert np.load(tmp_path / "p.npy").dtype == np.float32
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-4)

"""Folders that sentence-transformers has saved give what the library itself gives, on 1, 2 and 3 ranks."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from launch import LAUNCHERS, PROGRAMS, Outcome, predict_here, python, run, run_here
from safetensors.torch import load_file, save_file
from sentence_models import MAKERS, NUM_ROWS, Saved
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer

import runner
from runner.models.sentences.kinds import Embeddings, PairScores

TOLERANCE = {"bfloat16": 0.02}  # of the largest value; 2e-6 where there is none


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    saved = Saved(tmp_path_factory.mktemp("sentences"))
    for make in MAKERS:
        make(saved)
    return saved


@pytest.fixture(scope="module")
def folder(saved: Saved) -> Path:
    """Where the jobs' outputs are: of each by one rank, run here."""
    folder = saved._folder
    for options in jobs(saved, folder / "1", list(saved.jobs)):
        runner.predict(**{"threads": 1, **options})
    return folder


def jobs(saved: Saved, outputs: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    outputs.mkdir()
    common = {"data": str(saved._folder / "d.parquet"), "batch_size": 4, "chunk_size": 8}
    return [{**common, **saved.jobs[name], "output": str(output(outputs, name))} for name in names]


def output(folder: Path, name: str) -> Path:
    return folder / f"{name}.{'parquet' if name == 'sparse' else 'npy'}"


def dense(path: Path, width: int) -> np.ndarray:
    """Indices and values of a Parquet file, as an array."""
    table = pyarrow.parquet.read_table(path)
    found = np.zeros((len(table), width), np.float32)
    for row, (indices, values) in enumerate(
        zip(*(table[name].to_pylist() for name in ("indices", "values")), strict=True)
    ):
        found[row, indices] = values
    return found


def test_one_rank_gives_what_the_library_gives(saved: Saved, folder: Path) -> None:
    for name, expected in saved.expected.items():
        if name == "sparse":
            found = dense(output(folder / "1", name), expected.shape[1])
            assert ((found != 0) == (expected != 0)).all()
        else:
            found = np.load(output(folder / "1", name))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        if name in ("int8", "uint8"):  # a value may lie on the border of two levels but for rounding
            assert (found != expected).mean() < 0.005
        elif found.dtype.kind in "iu":
            assert (found == expected).all(), name
        else:
            assert np.abs(found - expected).max() < TOLERANCE.get(name, 2e-6) * max(1, np.abs(expected).max()), name


# what depends on how the model, its options and the rows come to the other ranks
SPREAD = {
    2: ("pooling", "int8", "static", "task", "prompt_column", "older", "code", "score", "sparse"),
    3: ("pooling", "prompt_column", "code", "sparse"),
}


@pytest.mark.parametrize("ranks", SPREAD)
def test_more_ranks_give_the_same_bytes(ranks: int, saved: Saved, folder: Path) -> None:
    names = SPREAD[ranks]
    (folder / f"{ranks}.json").write_text(json.dumps(jobs(saved, folder / str(ranks), names)))
    command = [*LAUNCHERS[f"mpirun-{ranks}"], *python(), PROGRAMS / "several.py", f"{ranks}.json"]
    outcome = run(command, folder)
    assert outcome.code == 0, outcome.output
    for name in names:
        assert output(folder / str(ranks), name).read_bytes() == output(folder / "1", name).read_bytes(), name


def predict(saved: Saved, folder: str, *options: str, **model_args: Any) -> Outcome:
    words = ["--model", f"{saved._folder / folder}/", "--data", saved._folder / "d.parquet", "--output", "p.npy"]
    words += [*(options or ("--columns", "text")), "--overwrite", "--fresh", "--batch-size", "8"]
    return predict_here(*words, "--model-args", json.dumps(model_args), folder=saved._folder)


def test_options_that_do_not_apply_are_refused(saved: Saved) -> None:
    np.save(saved._folder / "narrow.npy", np.ones((3, 5), np.float32))
    np.save(saved._folder / "whole.npy", np.ones((3, 24), np.int64))
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("dense", {"pooling": "cls"}, "'pooling' is not one of a SentenceTransformer's: prompt_name, prompt,"),
        ("sparse", {"normalize": True}, "'normalize' is not one of a SparseEncoder's"),
        ("score", {"truncate_dim": 1}, "'truncate_dim' is not one of a CrossEncoder's"),
        (
            "prompts",
            {"prompt_name": "passage"},
            "there is no prompt_name 'passage': the model has 'query', 'document',",
        ),
        ("prompts", {"prompt_name": "doc", "prompt": "x"}, "prompt_name and prompt cannot be combined"),
        ("dense", {"precision": "int4"}, "precision 'int4' is not one of float32, binary, ubinary, int8, uint8"),
        ("dense", {"precision": "int8"}, '"calibration": "PATH.npy" names float embeddings of this model'),
        ("dense", {"calibration": "x.npy"}, "calibration goes with precision int8 or uint8"),
        ("dense", {"precision": "int8", "calibration": "x.npy"}, "calibration x.npy cannot be read"),
        ("dense", {"precision": "int8", "calibration": "whole.npy"}, "holds int64 (3, 24), not floating-point"),
        ("dense", {"truncate_dim": 25}, "truncate_dim 25 is more than the model's 24"),
        ("dense", {"truncate_dim": "5"}, "truncate_dim must be a whole number of 1 or more, not '5'"),
        ("dense", {"max_length": 65}, "max_length 65 is more than the 64 tokens that the model takes"),
        ("static", {"max_length": 5}, "max_length does nothing here, the model has no limit of length"),
        ("dense", {"task": "query"}, "task is for models with a Router"),
    ]
    for folder, options, says in cases:
        outcome = predict(saved, folder, **options)
        assert (outcome.code, says in outcome.output) == (64, True), outcome.output
        assert outcome.output.count("runner: error") == 1, outcome.output
    outcome = predict(saved, "dense", precision="int8", calibration="narrow.npy")
    assert (outcome.code, "calibration has 5 numbers per row, the model gives 24" in outcome.output) == (65, True)


def test_rows_that_the_model_does_not_take_are_refused(saved: Saved) -> None:
    np.save(saved._folder / "ids.npy", np.ones((3, 5), np.int64))
    for folder, options, code, says in (
        ("dense", ("--columns", "text,other"), 65, "SentenceTransformer takes one column of text, not 2"),
        ("score", ("--columns", "text"), 65, "CrossEncoder takes two columns of text, not 1"),
        ("dense", ("--data", "ids.npy"), 65, "rows must be text: SentenceTransformer has a tokenizer of its own"),
        (
            "dense",
            ("--columns", "text", "--offload", "disk"),
            64,
            "--offload cannot split the layers of",
        ),
    ):
        outcome = predict(saved, folder, *options)
        assert (outcome.code, says in outcome.output) == (code, True), outcome.output
        assert "Traceback" not in outcome.output
    outcome = predict(saved, "dense", "--columns", "text,kind", prompt_column="kind")
    wrong = saved.prompts.index(next(name for name in saved.prompts if name not in ("query", "document")))
    assert outcome.code == 65, outcome.output
    assert (
        f"row {wrong}: there is no prompt {saved.prompts[wrong]!r}: the model has 'query', 'document'" in outcome.output
    )


def test_folders_that_are_not_whole_or_not_trusted_are_refused(saved: Saved, tmp_path: Path) -> None:
    outcome = predict(saved, "code")
    assert (outcome.code, "own_module.Twice is code of the folder" in outcome.output) == (65, True), outcome.output

    def change(folder: str, file: str, changed: dict[str, Any]) -> None:
        shutil.copytree(saved._folder / folder, saved._folder / "changed", dirs_exist_ok=True)
        path = saved._folder / "changed" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    cases = (
        ("score", {"activation_fn": "own.Square"}, "own.Square is code of the folder"),
        (
            "dense",
            {"model_type": "Other"},
            "its model_type Other is not one of SentenceTransformer,",
        ),
    )
    for folder, changed, says in cases:
        change(folder, "config_sentence_transformers.json", changed)
        outcome = predict(saved, "changed", "--columns", "text,other")
        assert (outcome.code, says in outcome.output) == (65, True), outcome.output
        shutil.rmtree(saved._folder / "changed")
    change("dense", "config.json", {})
    (saved._folder / "changed/modules.json").unlink()
    outcome = predict(saved, "changed")
    assert (outcome.code, "but not the modules.json" in outcome.output) == (65, True), outcome.output
    shutil.rmtree(saved._folder / "changed")


def test_weights_that_a_folder_lacks(saved: Saved) -> None:
    """Those that decide the answer are missed; others get the same values each time, so that the digest is the same."""

    def without(folder: str, name: str) -> None:
        shutil.copytree(saved._folder / folder, saved._folder / "without")
        weights = load_file(saved._folder / folder / "model.safetensors")
        del weights[name]
        save_file(weights, saved._folder / "without/model.safetensors", metadata={"format": "pt"})

    without("score", "classifier.weight")
    outcome = predict(saved, "without", "--columns", "text,other")
    assert (outcome.code, "lacks weights that decide what it gives: classifier.weight" in outcome.output) == (65, True)
    shutil.rmtree(saved._folder / "without")
    without("prompts", "pooler.dense.weight")
    inspected = [run_here("inspect", f"{saved._folder}/without/", folder=saved._folder) for _ in range(2)]
    assert inspected[0] == inspected[1]
    assert inspected[0].code == 0, inspected[0].output
    assert "SentenceTransformer of sentence-transformers: Transformer, Pooling\n" in inspected[0].output
    assert "text, cut off at 64 tokens" in inspected[0].output


def test_what_is_cut_off_is_counted(saved: Saved) -> None:
    """Of the texts with their prompts, against a tokenizer of Transformers, which cuts off nothing here."""
    count = AutoTokenizer.from_pretrained(saved._folder / "prompts")
    model = SentenceTransformer(str(saved._folder / "prompts"), device="cpu")
    model.max_seq_length = 16
    known = [model.prompts[name] for name in saved.prompts]
    named = {"text": saved.texts, "kind": saved.prompts}
    tokens = Embeddings(model, {"prompt_column": "kind"}).tokenize_named(named, range(NUM_ROWS))
    full = count([prompt + text for prompt, text in zip(known, saved.texts, strict=True)])["input_ids"]
    assert (list(tokens.lost), tokens.limit) == ([max(0, len(ids) - 16) for ids in full], 16)
    assert 0 < sum(map(bool, tokens.lost)) < NUM_ROWS

    model = CrossEncoder(str(saved._folder / "score"), device="cpu")
    tokens = PairScores(model, {}).tokenize_texts(saved.texts, saved.others)
    full = count(saved.texts, saved.others)["input_ids"]
    assert list(tokens.lost) == [max(0, len(ids) - 64) for ids in full]
    assert any(tokens.lost)


@pytest.mark.parametrize(("folder", "counts"), [("prompts", True), ("older", True), ("score", True), ("static", False)])
def test_a_chunk_that_is_tokenized_at_once_is_what_the_library_makes_of_each_batch(
    folder: str, counts: bool, saved: Saved
) -> None:
    library = CrossEncoder if folder == "score" else SentenceTransformer
    model = library(str(saved._folder / folder), device="cpu")
    sentences = (PairScores if folder == "score" else Embeddings)(model, {})
    columns = [saved.texts, saved.others][: 1 + (folder == "score")]
    assert (sentences.count_tokens is not None) == counts
    if sentences.count_tokens is None:
        return
    lengths = sentences.count_tokens(*columns)
    prompt = model.prompts["query"] if folder == "prompts" else None
    for rows in ([3, 1, 40], [7], list(range(NUM_ROWS))):
        texts = [[column[row] for row in rows] for column in columns]
        (part,) = sentences.tokenize_texts(*texts).inputs["parts"]
        inputs = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
        expected = model.preprocess(inputs, prompt=prompt)
        assert part.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(part[name], value) if isinstance(value, torch.Tensor) else part[name] == value, name
        assert [lengths[row] for row in rows] == expected["attention_mask"].sum(dim=1).tolist()
    assert ("prompt_length" in part) == (folder == "prompts")


def test_tokens_are_counted_for_a_budget(saved: Saved) -> None:
    words = ["--model", f"{saved._folder / 'older'}/", "--data", saved._folder / "d.parquet", "--columns", "text"]
    words += ["--output", "budget.npy", "--batch-tokens", "32"]
    outcome = predict_here(*words, folder=saved._folder)
    assert outcome.code == 0, outcome.output
    assert np.abs(np.load(saved._folder / "budget.npy") - saved.expected["older"]).max() < 2e-6


def test_settings_are_part_of_what_a_run_is(saved: Saved) -> None:
    shutil.copytree(saved._folder / "pooling", saved._folder / "edited")
    assert predict(saved, "edited", "--columns", "text", "--limit", "8").code == 0
    first = json.loads((saved._folder / "p.npy.run/manifest.json").read_text())["run"]["weights"]
    file = saved._folder / "edited/1_Pooling/config.json"
    file.write_text(file.read_text().replace("weightedmean", "mean"))
    assert predict(saved, "edited", "--columns", "text", "--limit", "8").code == 0
    second = json.loads((saved._folder / "p.npy.run/manifest.json").read_text())["run"]["weights"]
    assert first != second
    assert first.partition(",")[0] == second.partition(",")[0]  # of the weights themselves

"""Text before the tokenizer, and what the tokenizer cuts: counted, cut at the side that is asked for, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from launch import LAUNCHERS, PROGRAMS, predict_here, python, run
from texts import asked
from transformer_folders import SMALL, SMALL_GPT, save, save_tokenizer, sentences

import runner
from runner.models.transformers.tokenizer import to_be_scored

NUM_ROWS, LIMIT, ROOM = 61, 16, 3
TEXTS = sentences(3, NUM_ROWS)
Rows = list[tuple[str, ...]]


class Case:
    """A job, and what the library says of it.

    Args:
        options: of the job.
        rows: the texts that come to the tokenizer.
        side: at which they are cut.
        limit: where.
    """

    def __init__(
        self, options: dict[str, Any], rows: Rows, side: str = "right", limit: int = LIMIT, model: str = "bert"
    ) -> None:
        self.options, self.rows, self.side, self.limit, self.model = options, rows, side, limit, model


def make_cases(folder: Path) -> dict[str, Case]:
    (folder / "d.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    pa.parquet.write_table(pa.table({"a": TEXTS, "b": TEXTS[::-1]}), folder / "d.parquet")
    alone, pairs = [(text,) for text in TEXTS], [("queue", text) for text in TEXTS]
    text = {"data": str(folder / "d.txt")}
    both = [(first, second) for first, second in zip(TEXTS, TEXTS[::-1], strict=True)]
    score = {"model_args": {"score": True, "max_length": LIMIT}}
    return {
        "as it is": Case(text, alone),
        "left": Case({**text, "truncate": "left"}, alone, "left"),
        "right, measured": Case({**text, "truncate": "right", "baseline": True}, alone),
        "max_length": Case({**text, "model_args": {"max_length": 9}}, alone, limit=9),
        "columns": Case({"data": str(folder / "d.parquet")}, both),
        "a prompt": Case({**text, "preprocess": "texts:asked"}, [(row,) for row in asked(TEXTS)]),
        "pairs": Case({**text, "preprocess": "texts:in_pairs"}, pairs),
        "pairs by name": Case({**text, "preprocess": "texts:by_name", "batch_tokens": 40}, pairs),
        "generated": Case(
            {**text, "model_args": {"max_new_tokens": ROOM}, "truncate": "right"},
            alone,
            limit=LIMIT - ROOM,
            model="gpt",
        ),
        "scored": Case({**text, **score}, alone, "left", model="gpt"),
        "scored from the start": Case({**text, **score, "truncate": "right"}, alone, model="gpt"),
    }


class Library:
    """The models, by Transformers itself."""

    def __init__(self, folder: Path) -> None:
        for name in ("bert", "gpt"):
            (folder / name).mkdir()
        bert = {**SMALL, "vocab_size": 100, "num_labels": 5, "max_position_embeddings": LIMIT}
        self.bert = save(folder / "bert", "BertForSequenceClassification", **bert)
        self.gpt = save(folder / "gpt", "GPT2LMHeadModel", **SMALL_GPT, n_positions=LIMIT)
        self.tokenizer = save_tokenizer(folder / "bert", pad_token="[PAD]", eos_token="[EOS]")
        save_tokenizer(folder / "gpt", pad_token="[PAD]", eos_token="[EOS]")

    def answers(self, case: Case) -> np.ndarray:
        """Row by row."""
        self.tokenizer.truncation_side = case.side
        answer: Callable[..., torch.Tensor] = self._generate if "max_new" in str(case.options) else self._classify
        answer = self._score if "score" in str(case.options) else answer
        with torch.inference_mode():
            return torch.cat([answer(case, row) for row in case.rows]).numpy()

    def lost(self, case: Case) -> list[int]:
        """Of each row, the tokens that are cut off."""
        return [max(0, len(self.tokenizer(*row)["input_ids"]) - case.limit) for row in case.rows]

    def _inputs(self, case: Case, row: tuple[str, ...]) -> Any:
        return self.tokenizer(*row, truncation=True, max_length=case.limit, return_tensors="pt")

    def _classify(self, case: Case, row: tuple[str, ...]) -> torch.Tensor:
        return self.bert(**self._inputs(case, row)).logits

    def _generate(self, case: Case, row: tuple[str, ...]) -> torch.Tensor:
        inputs = self._inputs(case, row)
        found = self.gpt.generate(**inputs, max_new_tokens=ROOM, do_sample=False, pad_token_id=99)
        return torch.nn.functional.pad(found, (0, ROOM), value=99)[:, inputs["input_ids"].shape[1] :][:, :ROOM]

    def _score(self, case: Case, row: tuple[str, ...]) -> torch.Tensor:
        ids = self._inputs(case, row)["input_ids"]
        likely = torch.log_softmax(self.gpt(ids).logits[:, :-1], dim=-1)
        return likely.gather(2, ids[:, 1:, None]).sum(dim=(1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every case has run on two ranks."""
    return tmp_path_factory.mktemp("cut")


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(folder)


@pytest.fixture(scope="module")
def cases(folder: Path, library: Library) -> dict[str, Case]:
    cases = make_cases(folder)
    jobs = [options_of(folder, case, f"2-{number}") for number, case in enumerate(cases.values())]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    outcome = run([*LAUNCHERS["mpirun-2"], *python(), PROGRAMS / "several.py", folder / "jobs.json"], folder)
    assert outcome.code == 0, outcome.output
    for number, case in enumerate(cases.values()):
        runner.predict(**options_of(folder, case, f"1-{number}"), threads=1)
    return cases


def options_of(folder: Path, case: Case, name: str) -> dict[str, Any]:
    output = {"output": f"{folder}/{name}.npy", "batch_size": 8, "chunk_size": 16}
    return {**output, "model": f"{folder}/{case.model}/model", **case.options}


def test_answers_and_counts_are_the_librarys(cases: dict[str, Case], library: Library, folder: Path) -> None:
    for number, (name, case) in enumerate(cases.items()):
        lost, answers = library.lost(case), library.answers(case)
        assert 5 < sum(tokens > 0 for tokens in lost) < NUM_ROWS, name
        expected = (sum(tokens > 0 for tokens in lost), sum(lost), case.limit)
        for ranks in (1, 2):
            path = folder / f"{ranks}-{number}.npy"
            for record in ("report.json", "manifest.json"):
                told = json.loads(Path(f"{path}.run/{record}").read_text())
                assert (told["cut_rows"], told["cut_tokens"], told["token_limit"]) == expected, (name, ranks, record)
            assert np.allclose(np.load(path), answers, atol=1e-4), (name, ranks)
        assert (folder / f"1-{number}.npy").read_bytes() == (folder / f"2-{number}.npy").read_bytes(), name


def test_the_side_matters(cases: dict[str, Case], library: Library) -> None:
    """Guards the comparison above."""
    assert not np.allclose(library.answers(cases["as it is"]), library.answers(cases["left"]), atol=1e-2)
    assert not np.allclose(library.answers(cases["scored"]), library.answers(cases["scored from the start"]), atol=1e-2)


def predict(folder: Path, *options: str, output: str) -> tuple[int, str]:
    words = ["--model", "bert/model/", "--data", "d.txt", "--batch-size", "8", "--chunk-size", "16"]
    outcome = predict_here(*words, "--output", output, "--overwrite", *options, folder=folder)
    return outcome.code, outcome.output


def test_refusing_names_the_row_or_sets_it_aside(cases: dict[str, Case], library: Library, folder: Path) -> None:
    lost = library.lost(cases["as it is"])
    long = [row for row, tokens in enumerate(lost) if tokens]
    code, output = predict(folder, "--truncate", "refuse", output="refused.npy")
    assert code == 65, output
    assert f"row {long[0]}: its text has {LIMIT + lost[long[0]]} tokens, and the model takes {LIMIT}" in output
    code, output = predict(folder, "--truncate", "refuse", "--on-error", "quarantine", output="refused.npy")
    assert code == 0, output
    lines = (folder / "refused.npy.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == long
    assert " cut at " not in output
    short = np.setdiff1d(np.arange(NUM_ROWS), long)
    assert np.allclose(np.load(folder / "refused.npy")[short], library.answers(cases["as it is"])[short], atol=1e-4)


def test_resumed_chunks_and_bad_rows_are_counted_right(
    cases: dict[str, Case], library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = library.lost(cases["as it is"])
    long = [row for row, tokens in enumerate(lost) if tokens]
    texts = list(TEXTS)
    texts[long[0]] += " poison"
    (folder / "bad.txt").write_text("".join(f"{text}\n" for text in texts))
    bad = ["--data", "bad.txt", "--preprocess", "texts:not_poison", "--on-error", "quarantine"]
    code, output = predict(folder, *bad, output="bad.npy")
    assert code == 0, output
    cut = f"{len(long) - 1} texts truncated at {LIMIT} tokens, {sum(lost) - lost[long[0]]:,} tokens lost"
    assert cut in output

    texts[50] = f"later {texts[50]}"  # of the last chunk; the word is unknown, and a token as any
    texts[long[0]] = TEXTS[long[0]]
    (folder / "later.txt").write_text("".join(f"{text}\n" for text in texts))
    monkeypatch.setenv("RUNNER_TEST_FLAG", str(folder / "flag"))
    (folder / "flag").touch()
    twice = ["--data", "later.txt", "--preprocess", "texts:once_not_later"]
    assert predict(folder, *twice, output="later.npy")[0] == 65
    (folder / "flag").unlink()
    code, output = predict(folder, *twice, output="later.npy")
    assert code == 0, output
    assert "48 resumed" in output
    lost = library.lost(Case({}, [(text,) for text in texts]))
    assert f"{sum(n > 0 for n in lost)} texts truncated at {LIMIT} tokens, {sum(lost)} tokens lost" in output


def test_callables_that_take_texts(folder: Path, cases: dict[str, Case]) -> None:
    table = pa.table({"text": TEXTS, "more": TEXTS[::-1], "number": np.arange(NUM_ROWS)})
    pa.parquet.write_table(table, folder / "columns.parquet")
    expected = np.array([[len(text), text.count("a")] for text in TEXTS])
    code, output = predict(folder, "--model", "texts:Counts", output="counts.npy")
    assert code == 0, output
    assert np.array_equal(np.load(folder / "counts.npy"), expected)
    options = ["--model", "texts:CountsPairs", "--data", "columns.parquet"]
    code, output = predict(folder, *options, output="counts.npy")
    assert code == 0, output
    assert np.array_equal(np.load(folder / "counts.npy"), expected + expected[::-1] + np.arange(NUM_ROWS)[:, None])


REFUSED: dict[str, tuple[int, str, list[str]]] = {
    "another side": (64, "--truncate", ["--truncate", "middle"]),
    "no tokenizer": (64, "this model has none", ["--truncate", "left", "--model", "texts:Counts"]),
    "no text": (64, "--truncate left applies to texts", ["--truncate", "left", "--preprocess", "texts:as_numbers"]),
    "too few texts": (65, "one per row is needed", ["--preprocess", "texts:one_too_few"]),
    "text beside numbers": (65, "some columns are text and some are not", ["--data", "columns.parquet"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, folder: Path, cases: dict[str, Case]) -> None:
    code, message, options = REFUSED[case]
    found, output = predict(folder, "--fresh", *options, output="no.npy")
    assert found == code, output
    assert message in output
    assert output.count("runner: error") == 1
    assert not (folder / "no.npy").exists()


def test_what_is_scored_of_a_row_that_is_cut(library: Library) -> None:
    columns = (["rank node"], ["queue tensor batch"])
    left, right = (to_be_scored(library.tokenizer, 4, *columns, keeps_start=start) for start in (False, True))
    assert (left.lost, right.lost) == ([1], [1])
    assert left.inputs["scored"].tolist() == [[False, True, True, True]]
    assert right.inputs["scored"].tolist() == [[False, False, True, True]]

"""Generated text against Transformers' own `generate`, row by row; sampling by keyed noise; prompts and templates."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from language_models import DECODERS, ENCODER_DECODERS, TEXTS, save_language_model
from launch import Outcome, predict_here

from runner.engine.prompts import prompt_maker
from runner.models.language.sampling import Key, gumbel_noise, sample

NUM_NEW = 10
# settings of a user, each as `--model-args` and as arguments of `generate`
SETTINGS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    {"min_new_tokens": 6, "suppress_tokens": [7, 8], "begin_suppress_tokens": [9]},
    {"bad_words_ids": [[40], [41, 42]], "eos_token_id": [2, 44, 260]},
    {"exponential_decay_length_penalty": [2, 1.9], "renormalize_logits": True},
    {"sequence_bias": [[[50], 3.0]], "forced_eos_token_id": 2},
    {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 2},  # of a decoder: its prompt
]
OF_ENCODERS: list[dict[str, Any]] = [
    {"forced_bos_token_id": 60},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    for name in (*DECODERS, *ENCODER_DECODERS):
        save_language_model(folder / name, name)
    save_language_model(folder / "base", "llama", template=None)
    rows = [{"id": i, "text": text, "chat": [{"role": "user", "content": text}]} for i, text in enumerate(TEXTS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def answers(folder: Path, model: str, *options: str, **args: Any) -> list[dict[str, Any]]:
    """The rows of a job that gives text."""
    outcome = predict(folder, model, *options, **args)
    assert outcome.code == 0, outcome.output
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def predict(folder: Path, model: str, *options: str, **args: Any) -> Outcome:
    given = json.dumps({"max_new_tokens": NUM_NEW, "decode": True, **args})
    data = () if "--messages" in options or "--columns" in options else ("--columns", "text")
    words = ["--model", f"./{model}", "--data", "rows.jsonl", "--output", "out.jsonl", "--model-args", given, *data]
    return predict_here(*words, "--overwrite", "--fresh", *options, folder=folder)


@functools.cache
def load(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the model of a folder, by Transformers."""
    model = "AutoModelForSeq2SeqLM" if folder.name in ENCODER_DECODERS else "AutoModelForCausalLM"
    auto = transformers.AutoTokenizer, getattr(transformers, model)
    return auto[0].from_pretrained(folder), auto[1].from_pretrained(folder)


def of_library(folder: Path, model: str, text: str, **settings: Any) -> dict[str, Any]:
    """What Transformers gives for a text alone."""
    torch.set_num_threads(1)
    tokenizer, generator = load(folder / model)
    if model in ENCODER_DECODERS:
        inputs = tokenizer(text, return_tensors="pt")
    else:
        chat = [{"role": "user", "content": text}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        found = generator.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=NUM_NEW, **settings
        )[0]
    new = found[1:] if model in ENCODER_DECODERS else found[length:]
    ends = settings.get("eos_token_id", generator.generation_config.eos_token_id)
    is_end = int(new[-1]) in (ends if isinstance(ends, list) else [ends])
    return {
        "text": tokenizer.decode(new, skip_special_tokens=True),
        "finish_reason": "stop" if is_end else "length",
        "prompt_tokens": length,
        "completion_tokens": len(new),
    }


@pytest.mark.parametrize("model", [*DECODERS, *ENCODER_DECODERS])
def test_answers_are_those_of_the_library(model: str, folder: Path) -> None:
    reasons = set()
    several = SETTINGS if model in ("llama", "t5") else SETTINGS[1::2]
    for settings in [*several, *(OF_ENCODERS if model in ENCODER_DECODERS else [])]:
        found = answers(folder, model, **settings)
        assert found == [of_library(folder, model, text, **settings) for text in TEXTS], settings
        reasons |= {row["finish_reason"] for row in found}
    assert reasons == ({"stop"} if model in ("bart", "marian") else {"length", "stop"})  # where the end is forced


def test_settings_of_the_folder_come_first_and_options_replace_them(folder: Path, tmp_path: Path) -> None:
    save_language_model(tmp_path / "model", "llama")
    (tmp_path / "rows.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    own = {"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.4, "eos_token_id": [2, 44], "pad_token_id": 0}
    (tmp_path / "model/generation_config.json").write_text(json.dumps(own))
    greedy = answers(tmp_path, "model", do_sample=False)
    assert greedy == [of_library(tmp_path, "model", text, do_sample=False) for text in TEXTS]
    sampled = answers(tmp_path, "model")
    assert sampled != greedy
    assert sampled == answers(tmp_path, "model", "--batch-size", "1", seed=0)
    plain = answers(tmp_path, "model", do_sample=False, repetition_penalty=1.0, eos_token_id=2)
    assert plain == answers(folder, "llama")


def test_what_has_no_effect_is_named(folder: Path) -> None:
    outcome = predict(folder, "llama", top_k=5, temperature=0.5)
    assert 'temperature, top_k has no effect without "do_sample": true' in outcome.output
    assert "no effect" not in predict(folder, "llama", top_k=5, do_sample=True).output


def test_stop_strings(folder: Path) -> None:
    whole_row = answers(folder, "llama", min_new_tokens=NUM_NEW)[0]
    whole = whole_row["text"]
    inner = whole[3:5]
    first = answers(folder, "llama", stop=["never there", inner], min_new_tokens=0)[0]
    assert first["text"] == whole[: whole.index(inner)]
    assert first["finish_reason"] == "stop"
    assert answers(folder, "llama", stop=inner, min_new_tokens=NUM_NEW)[0] == {**whole_row, "finish_reason": "length"}
    library = answers(folder, "llama", stop_strings=[inner])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "llama")
    expected = [of_library(folder, "llama", t, stop_strings=[inner], tokenizer=tokenizer)["text"] for t in TEXTS]
    assert [row["text"] for row in library] == expected
    assert library[0]["text"].startswith(first["text"] + inner)


def test_answers_follow_a_schema(folder: Path) -> None:
    names = {"type": "string", "enum": ["yes", "no"]}
    schema = {"type": "array", "items": names, "minItems": 1, "maxItems": 2}
    found = answers(folder, "llama", max_new_tokens=60, do_sample=True, json_schema=schema)
    for row in found:
        if row["finish_reason"] == "stop":  # small models like white space better
            assert set(json.loads(row["text"])) <= {"yes", "no"}
    assert any(row["finish_reason"] == "stop" for row in found)
    chosen = answers(folder, "gpt2", choice=["rank", "node"])
    assert {row["text"] for row in chosen} <= {"rank", "node"}


@pytest.mark.parametrize("size", ["1", "4"])
def test_a_sample_depends_on_seed_and_row_alone(size: str, folder: Path) -> None:
    args = {"do_sample": True, "temperature": 1.3, "top_p": 0.95, "seed": 7}
    together = answers(folder, "qwen3", **args)
    assert together == answers(folder, "qwen3", "--batch-size", size, **args)
    assert together != answers(folder, "qwen3", **{**args, "seed": 8})


def test_samples_are_distributed_as_softmax_says() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, -torch.inf, 3.0, 0.0])
    number = 20_000
    drawn = [sample(logits, Key(3, row // 10, row % 2), row // 2 % 5) for row in range(number)]
    both = np.arange(2)
    assert len({tuple(gumbel_noise(Key(3, r, s), p, both)) for r in range(5) for s in range(2) for p in range(5)}) == 50
    expected = torch.softmax(logits.double(), 0).numpy() * number
    counts = np.bincount(drawn, minlength=len(logits))
    assert counts[5] == 0
    kept = expected > 0
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < 24.3  # the 0.999 quantile of chi-squared with 7 - 1 degrees of freedom is 22.5


def test_noise_stays_what_it_is() -> None:
    """A resumed run must draw what the run before it would have drawn, whatever the version of NumPy."""
    assert gumbel_noise(Key(5, 2**40, 1), 3, np.arange(4)).round(9).tolist() == NOISE
    assert gumbel_noise(Key(5, 2**40, 1), 3, np.array([1, 3])).round(9).tolist() == NOISE[1::2]


NOISE = [-0.648172022, 0.762024883, -0.712586158, 0.57044523]


def test_messages_and_texts_go_through_the_template_once(folder: Path) -> None:
    texts = answers(folder, "llama")
    assert answers(folder, "llama", "--messages", "chat") == texts
    quoted = answers(folder, "llama", "--prompt", "{text}", "--keep", "id")
    assert [{name: row[name] for name in texts[0]} for row in quoted] == texts
    assert [row["id"] for row in quoted] == list(range(len(TEXTS)))
    system = answers(folder, "llama", "--system", "Be brief.", "--prompt", "{{{text}}}: {text}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "llama")
    for text, row in zip(TEXTS, system, strict=True):
        chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{{{text}}}: {text}"}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids.count(1) == 1
        assert row["prompt_tokens"] == len(ids)
    rows = [{"chat": json.dumps([{"role": "user", "content": text}])} for text in TEXTS]
    (folder / "as-json.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert answers(folder, "llama", "--messages", "chat", "--data", "as-json.jsonl") == texts
    more = answers(folder, "llama", chat_template_kwargs={"thinking": "a b c"})
    assert [row["prompt_tokens"] > before["prompt_tokens"] for row, before in zip(more, texts, strict=True)]
    assert more != texts


def test_conversations_that_are_none_are_bad_rows(folder: Path) -> None:
    rows = [[{"role": "user", "content": "node"}], [{"role": "user", "content": "a"}], []]
    (folder / "bad.jsonl").write_text("".join(json.dumps({"chat": row}) + "\n" for row in rows))
    outcome = predict(folder, "llama", "--messages", "chat", "--data", "bad.jsonl")
    assert outcome.code == 65
    assert "row 2: a conversation must be a list of messages, of one at least" in outcome.output
    sampled = {"do_sample": True, "temperature": 1.2}
    found = answers(folder, "llama", "--messages", "chat", "--data", "bad.jsonl", "--on-error", "quarantine", **sampled)
    (folder / "good.jsonl").write_text("".join(json.dumps({"chat": row}) + "\n" for row in rows[:2]))
    assert found[:2] == answers(folder, "llama", "--messages", "chat", "--data", "good.jsonl", **sampled)
    assert found[2]["text"] == ""


def test_stops_that_are_special_tokens_and_logits_that_are_none(folder: Path, tmp_path: Path) -> None:
    save_language_model(tmp_path / "model", "llama")
    (tmp_path / "rows.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    tokenizer, model = load(tmp_path / "model")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    bias = [[[end], 100.0]]
    (first, *_) = answers(tmp_path, "model", sequence_bias=bias, stop="<|im_end|>")
    assert (first["text"], first["finish_reason"], first["completion_tokens"]) == ("", "stop", 1)
    model.lm_head.weight.data.fill_(torch.nan)
    model.save_pretrained(tmp_path / "model")
    outcome = predict(tmp_path, "model")
    assert outcome.code == 65
    assert "the model gave logits that are not a number" in outcome.output


def test_numbers_in_a_prompt_have_the_digits_of_their_type() -> None:
    make = prompt_maker("{x}: {y}", ["x", "y"])
    batch = {"x": torch.tensor([0.1, 2.0]), "y": [torch.tensor([1, 2]), torch.tensor([3])]}
    assert make(batch) == ["0.1: [1, 2]", "2.0: [3]"]


def test_a_model_without_a_template_takes_text_as_it_is(folder: Path) -> None:
    plain = answers(folder, "llama", chat_template=False)
    assert plain == answers(folder, "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "base")
    assert [row["prompt_tokens"] for row in plain] == [len(tokenizer(text)["input_ids"]) for text in TEXTS]


@pytest.mark.parametrize(
    ("code", "said", "options", "args"),
    [
        (65, "--system needs the chat template of the model's tokenizer, and --model ./base has none",
         ["--system", "x"], {}),
        (65, '"chat_template": true needs the chat template', [], {"chat_template": True}),
        (64, "no column 'txt' among id, text; did you mean text?", ["--columns", "id,text", "--prompt", "{txt}"], {}),
        (64, "names no column in braces", ["--prompt", "Hello"], {}),
        (64, "braces hold the name of a column and no more", ["--prompt", "{text!r}"], {}),
        (64, "'top_kk' is not one of", [], {"top_kk": 3}),
        (64, "strictly positive", [], {"do_sample": True, "temperature": -1.0}),
        (64, "stop must be a string or a list of strings", [], {"stop": [3]}),
        (64, "seed -1 is not a whole number", [], {"seed": -1}),
        (64, "do_sample must be true or false, not 'false'", [], {"do_sample": "false"}),
        (64, "repetition_penalty must be a number, not '1.2'", [], {"repetition_penalty": "1.2"}),
        (64, "eos_token_id must be a token id or a list of them, not None", [], {"eos_token_id": None}),
        (64, "bad_words_ids: 99999 is no token id from 0 to 319", [], {"bad_words_ids": [[99999]]}),
        (64, "choice must be a list of texts, not 'yes'", [], {"choice": "yes"}),
        (64, "no column 'txt' among text; did you mean text?", ["--columns", "text", "--prompt", "{txt}"], {}),
        (64, "no column 'text.__class__'", ["--columns", "text", "--prompt", "{text.__class__}"], {}),
        (64, "--messages and --columns cannot be combined", ["--messages", "chat", "--columns", "text"], {}),
    ],
)  # fmt: skip
def test_refused(code: int, said: str, options: list[str], args: dict[str, Any], folder: Path) -> None:
    outcome = predict(folder, "base", *options, **args)
    assert outcome.code == code, outcome.output
    assert said in " ".join(outcome.output.split()), outcome.output
    assert outcome.output.count("runner: error") == 1, outcome.output


def test_prompts_that_are_too_long_are_never_cut_silently(tmp_path: Path) -> None:
    save_language_model(tmp_path / "llama", "llama")
    texts = ["node", "rank " * 200, "queue"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    refused = predict(tmp_path, "llama")
    assert refused.code == 65
    assert "row 1: its text has" in refused.output
    aside = answers(tmp_path, "llama", "--on-error", "quarantine")
    assert [bool(row["finish_reason"]) for row in aside] == [True, False, True]
    found = []
    for side in ("left", "right"):
        (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "the fox " + "rank " * 200 + "the dog"}) + "\n")
        found += answers(tmp_path, "llama", "--truncate", side)
        report = json.loads((tmp_path / "out.jsonl.run/report.json").read_text())
        assert report["cut_rows"] == 1
        assert report["counts"]["prompt_tokens"] == found[-1]["prompt_tokens"] == 128 - NUM_NEW
    # what is left of the text, in a template that is whole
    tokenizer, _ = load(tmp_path / "llama")
    empty = [{"role": "user", "content": ""}]
    room = 128 - NUM_NEW - len(tokenizer.apply_chat_template(empty, add_generation_prompt=True)["input_ids"])
    words = tokenizer("the fox " + "rank " * 200 + "the dog", add_special_tokens=False)["input_ids"]
    for row, kept in zip(found, (words[-room:], words[:room]), strict=True):
        expected = of_library(tmp_path, "llama", tokenizer.decode(kept))
        assert row == expected

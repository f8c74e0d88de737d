"""Files of requests in OpenAI's batch format: responses in its format, the same on any number of ranks."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import transformers
from language_models import save_language_model
from launch import LAUNCHERS, await_chunks, finish, predict_command, predict_here, run, start
from openai.types import Completion
from openai.types.chat import ChatCompletion

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def request(number: int, url: str = CHAT, **body: Any) -> dict[str, Any]:
    prompt = {"messages": [{"role": "user", "content": f"node {number}"}]} if url == CHAT else {"prompt": "the quick"}
    custom = f"request {number}"
    return {"custom_id": custom, "method": "POST", "url": url, "body": {"model": "llama", **prompt, **body}}


GREEDY = {"max_tokens": 5, "temperature": 0}
GOOD = [
    request(0, **GREEDY),
    request(1, max_completion_tokens=9, temperature=0.8, top_p=0.9, n=3, seed=11),
    request(2, max_tokens=4, temperature=0, logprobs=True, top_logprobs=2, user="me"),
    request(3, TEXT, max_tokens=7, temperature=0, logprobs=1, echo=True),
    request(4, TEXT, prompt=[5, 60, 61], temperature=0, max_tokens=8, min_tokens=8, stop_token_ids=[70]),
    request(5, max_tokens=8, temperature=0, frequency_penalty=2, presence_penalty=1, logit_bias={"40": -100}),
    request(6, max_tokens=8, top_k=3, min_p=0.01, repetition_penalty=1.2, ignore_eos=True, stream=False),
    request(7, messages=[{"role": "user", "content": [{"type": "text", "text": "node 0"}]}], **GREEDY),
    request(9, max_tokens=20, seed=3, structured_outputs={"choice": ["yes", "not at all"]}),
    request(10, max_tokens=20, seed=3, structured_outputs={"regex": "[a-c]{3}-[0-9]"}),
    request(11, max_tokens=20, structured_outputs={"choice": ["表é"]}, logprobs=True),
    request(8, temperature=0, stop=["e"], chat_template_kwargs={"thinking": "x"}),
]  # fmt: skip
# each with the status and a part of the message
BAD: list[tuple[Any, int, str]] = [
    ("{", 400, "the line is no JSON"),
    ([1], 400, "the line is no JSON object"),
    ({**request(0), "custom_id": None}, 400, "custom_id must be text"),
    ({**request(0), "method": "GET"}, 400, "method 'GET' is not POST"),
    (request(0, "/v1/embeddings", input="x"), 404, "url '/v1/embeddings' is not served"),
    (request(0, model="gpt"), 404, "model 'gpt' is not served; 'llama' is"),
    (request(0, max_tokens=5000), 400, "and max_tokens 5,000, and the model takes 128 in all"),
    (request(0, maxtokens=3), 400, "maxtokens is not a known field; did you mean max_tokens?"),
    (request(0, temperature=3), 400, "temperature must be a number from 0 to 2, not 3"),
    (request(0, n=2, temperature=0), 400, "all answers would be the same"),
    (request(0, stop=[1]), 400, "stop must be text or a list of texts"),
    (request(0, messages=[]), 400, "messages must be a list of messages"),
    (request(0, messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400, "takes text alone"),
    (request(0, TEXT, prompt=[99999]), 400, "prompt must be one text"),
    (request(0, tools=[{"type": "function"}]), 400, "is not served"),
    (request(0, response_format={"type": "xml"}), 400, "type 'xml' is not one of text, json_object, json_schema"),
    (request(0, structured_outputs={"regex": "["}), 400, "regex: "),
    (request(0, structured_outputs={"regex": "a", "choice": ["b"]}), 400, "cannot be combined"),
    (request(0, logit_bias={"x": 1}), 400, "'x' is no token id"),
    (request(0, top_logprobs=2), 400, "top_logprobs needs logprobs true"),
    ("[" * 100_000, 400, "the line is no JSON"),
    ({**request(0), "custom_id": "a\ud800"}, 400, "surrogates not allowed"),
    (request(0, TEXT, prompt="\ud800"), 400, "the request cannot be read"),
    (request(0, logit_bias={"9" * 5000: 1}), 400, "the request cannot be read"),
    (request(0, structured_outputs={"choice": "yes"}), 400, "choice must be a list of texts, not 'yes'"),
    (request(0, structured_outputs={"choice": []}), 400, "choice must be a list of texts"),
    (request(0, min_tokens=9, max_tokens=3), 400, "min_tokens 9 is more than max_tokens 3"),
    (request(0, chat_template_kwargs={"truncation": True}), 400, "truncation is not for the template"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requests")
    save_language_model(folder / "llama", "llama")
    rows = [*GOOD, *(row for row, _, _ in BAD)]
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "in.jsonl").write_text("\n\n".join(lines))  # empty lines are no requests
    return folder


def options(output: str, *more: str) -> list[str]:
    return ["--model", "./llama", "--data", "in.jsonl", "--output", output, "--batch-size", "4", *more]


@pytest.fixture(scope="module")
def alone(folder: Path) -> str:
    """The responses of one rank."""
    outcome = predict_here(*options("one.jsonl"), folder=folder)
    assert outcome.code == 0, outcome.output
    assert f"{len(BAD)} of them in quarantine" in outcome.output
    return (folder / "one.jsonl").read_text()


def test_responses_are_those_of_the_api(alone: str, folder: Path) -> None:
    rows = [json.loads(line) for line in alone.splitlines()]
    assert [row["custom_id"] for row in rows[: len(GOOD)]] == [row["custom_id"] for row in GOOD]
    assert len({row["id"] for row in rows}) == len(rows) == len(GOOD) + len(BAD)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "llama")
    prompts, answers = 0, 0
    for row, asked in zip(rows, GOOD, strict=False):
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        body = (ChatCompletion if asked["url"] == CHAT else Completion).model_validate(row["response"]["body"])
        assert body.model == "llama"
        assert len(body.choices) == asked["body"].get("n", 1)
        assert body.usage is not None
        prompts, answers = prompts + body.usage.prompt_tokens, answers + body.usage.completion_tokens
    said = [row["response"]["body"]["choices"] for row in rows[: len(GOOD)]]
    chat = tokenizer.apply_chat_template(GOOD[0]["body"]["messages"], add_generation_prompt=True, return_dict=True)
    assert rows[0]["response"]["body"]["usage"]["prompt_tokens"] == len(chat["input_ids"])
    assert said[7] == said[0]  # the same content, in parts
    assert len({choice["message"]["content"] for choice in said[1]}) == 3
    assert said[3][0]["text"].startswith("the quick")
    assert len(said[3][0]["logprobs"]["tokens"]) == 7
    likely = said[2][0]["logprobs"]["content"]
    assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] for token in likely)  # greedy
    assert said[8][0]["message"]["content"] in ("yes", "not at all")
    assert re.fullmatch("[a-c]{3}-[0-9]", said[9][0]["message"]["content"])
    assert bytes(byte for token in said[10][0]["logprobs"]["content"][:-1] for byte in token["bytes"]).decode() == "表é"
    assert "e" not in said[11][0]["message"]["content"]
    report = json.loads((folder / "one.jsonl.run/report.json").read_text())
    assert (report["counts"]["prompt_tokens"], report["counts"]["completion_tokens"]) == (prompts, answers)


def test_an_answer_that_cannot_go_on_is_told_in_its_response(folder: Path) -> None:
    """A grammar that is at its end, and settings that allow no end."""
    stuck = request(0, structured_outputs={"choice": ["a"]}, min_tokens=9, max_tokens=20)
    rows = [{**request(number, **GREEDY), "custom_id": f"r{number}"} for number in range(2)]
    (folder / "stuck.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [rows[0], stuck, rows[1]]))
    outcome = predict_here(*options("stuck-out.jsonl", "--data", "stuck.jsonl"), folder=folder)
    assert outcome.code == 0, outcome.output
    found = [json.loads(line) for line in (folder / "stuck-out.jsonl").read_text().splitlines()]
    assert [row["response"]["status_code"] for row in found] == [200, 400, 200]
    assert found[1]["error"]["message"] == "an answer cannot go on: what is asked excludes every token"


def test_files_of_requests_and_of_rows_are_not_mixed(folder: Path) -> None:
    (folder / "mixed-1.jsonl").write_text('{"text": "a"}\n')
    (folder / "mixed-2.jsonl").write_text("\n" * 9 + json.dumps(GOOD[0]) + "\n")
    outcome = predict_here(*options("mixed.jsonl", "--data", "mixed-[12].jsonl"), folder=folder)
    assert outcome.code == 65
    assert "mixed-2.jsonl holds requests of OpenAI's batch format, and mixed-1.jsonl does not" in outcome.output


def test_a_request_that_cannot_be_served_is_told_in_its_response(alone: str, folder: Path) -> None:
    rows = [json.loads(line) for line in alone.splitlines()][len(GOOD) :]
    listed = (folder / "one.jsonl.run/quarantine.jsonl").read_text().splitlines()
    for number, (row, line, (asked, status, said)) in enumerate(zip(rows, listed, BAD, strict=True)):
        assert row["response"]["status_code"] == row["error"]["code"] == status
        assert said in row["error"]["message"], number
        assert json.loads(line)["row"] == len(GOOD) + number
        assert json.loads(line)["error"] == row["error"]["message"]
        if isinstance(asked, dict) and asked["custom_id"] and asked["custom_id"].isprintable():
            assert row["custom_id"] == asked["custom_id"]


@pytest.mark.parametrize("ranks", ["mpirun-2", "horovodrun-2"])
def test_the_same_bytes_on_any_number_of_ranks(ranks: str, alone: str, folder: Path) -> None:
    more = ["--schedule", "dynamic", "--chunk-size", "4"]
    outcome = run(predict_command(*options(f"{ranks}.jsonl", *more), launcher=LAUNCHERS[ranks]), folder)
    assert outcome.code == 0, outcome.output
    assert (folder / f"{ranks}.jsonl").read_text() == alone


def test_parts_of_a_model_answer_alike(alone: str, folder: Path) -> None:
    outcome = run(
        predict_command(*options("split.jsonl", "--model-parallel", "2"), launcher=LAUNCHERS["mpirun-2"]), folder
    )
    assert outcome.code == 0, outcome.output
    found = [json.loads(line) for line in (folder / "split.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in alone.splitlines()]
    for row in (*found[2:4], found[10], *expected[2:4], expected[10]):  # whose last bits may differ
        del row["response"]["body"]["choices"][0]["logprobs"]
    assert found == expected


def test_stopped_and_resumed(alone: str, folder: Path) -> None:
    (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GOOD * 15))
    words = options("stopped.jsonl", "--chunk-size", "4", "--data", "many.jsonl")
    process = start(predict_command(*words, launcher=LAUNCHERS["mpirun-2"]), folder)
    await_chunks(folder / "stopped.jsonl.run", 1, process)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process, 60)
    assert stopped.code != 0, stopped.output
    outcome = predict_here(*words, folder=folder)
    assert outcome.code == 0, outcome.output
    rows = [json.loads(line) for line in (folder / "stopped.jsonl").read_text().splitlines()]
    assert json.loads((folder / "stopped.jsonl.run/report.json").read_text())["resumed_rows"] > 0
    first = [json.loads(line)["response"]["body"]["choices"] for line in alone.splitlines()[: len(GOOD)]]
    assert [row["response"]["body"]["choices"] for row in rows[: len(GOOD)]] == first
    again = predict_here(*options("again.jsonl", "--data", "many.jsonl", "--chunk-size", "4"), folder=folder)
    assert again.code == 0, again.output
    assert (folder / "stopped.jsonl").read_text() == (folder / "again.jsonl").read_text()


def test_requests_need_a_model_that_answers(folder: Path) -> None:
    outcome = predict_here(*options("x.jsonl", "--model-args", '{"score": true}'), folder=folder)
    assert outcome.code == 64
    assert "holds requests of OpenAI's batch format" in outcome.output
    renamed = predict_here(
        *options("named.jsonl", "--limit", "1", "--model-args", '{"served_model_name": "gpt"}'), folder=folder
    )
    assert renamed.code == 0
    assert "model 'llama' is not served; 'gpt' is" in (folder / "named.jsonl").read_text()

"""Requests of OpenAI's batch format, each a line of JSON: what they ask, or why they cannot be served.

Format: https://platform.openai.com/docs/guides/batch; the settings beyond it are those of vLLM's server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.core.errors import describe
from runner.core.printable import printable
from runner.models.language.asked import Asked, with_special_stops
from runner.models.language.grammars import grammar_of, wanted
from runner.models.language.request_fields import BadRequest, Body, check_known, grammar_fields
from runner.models.language.request_prompts import chat_prompt, completion_prompt
from runner.models.language.settings import given_settings, resolve

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
_URLS = (CHAT, COMPLETION)
_COMPLETION_TOKENS = 16  # of OpenAI's API where a completion does not say
_MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Request:
    """A request that can be served, or one that cannot.

    Attributes:
        custom_id: the user's name of it; "" where it has none.
        url: CHAT or COMPLETION; "" where it is neither.
        model: name of the model, as the request has it.
        tokens: token ids of the prompt; empty where it cannot be served.
        prompt: text of the prompt, to be repeated before the answer; "" where that is not asked for.
        asked: what is asked; None where it cannot be served.
        num_answers: number of answers.
        seed: of its own; None where it has none.
        error: why it cannot be served; "" where it can.
        status: the status code of HTTP.
    """

    custom_id: str = ""
    url: str = ""
    model: str = ""
    tokens: tuple[int, ...] = ()
    prompt: str = ""
    asked: Asked | None = None
    num_answers: int = 1
    seed: int | None = None
    error: str = ""
    status: int = 200


@dataclass(frozen=True)
class Served:
    """The model that serves requests, and its defaults.

    Attributes:
        names: the names of the model; a request for another is refused.
        settings: generation settings of the folder.
        room: the most tokens of prompt and answer together, or of each where the model has an encoder; None for no
            limit.
        has_encoder: whether it has one.
        tokenizer: tokenizer of the model.
        options: `--model-args`, which hold for what a request does not say.
        resolved: generation settings of earlier requests, by what they ask.
    """

    names: tuple[str, ...]
    settings: Any
    room: int | None
    has_encoder: bool
    tokenizer: Any
    options: Mapping[str, Any]
    resolved: dict[str, Any] = field(default_factory=dict)


def parse_request(line: str, served: Served) -> Request:
    """Return what a line asks for, or why it cannot be served."""
    known: dict[str, Any] = {}
    try:
        request = _load(line)
        known["custom_id"] = _custom_id(request)
        url = request.get("url")
        if url not in _URLS:
            raise BadRequest(f"url {url!r} is not served; {' and '.join(_URLS)} are", 404)
        known["url"] = url
        if request.get("method") != "POST":
            raise BadRequest(f"method {request.get('method')!r} is not POST")
        if not isinstance(request.get("body"), dict):
            raise BadRequest("body must be an object")
        body = Body(request["body"])
        known["model"] = body.text("model") or ""
        return _parse_body(body, known, served)
    except BadRequest as error:
        return Request(**known, error=printable(str(error)), status=error.status)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:  # such as half a character of UTF-16
        return Request(**known, error=printable(f"the request cannot be read: {describe(error)}"), status=400)


def _load(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the line is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequest("the line is no JSON object")
    return request


def _custom_id(request: Mapping[str, Any]) -> str:
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadRequest(f"custom_id must be text, not {custom_id!r}")
    custom_id.encode()  # half a character of UTF-16 is no text
    return custom_id


def _parse_body(body: Body, known: dict[str, Any], served: Served) -> Request:
    is_chat = known["url"] == CHAT
    if known["model"] not in served.names:
        raise BadRequest(
            f"model {known['model']!r} is not served; {served.names[0]!r} is. --model-args "
            '\'{"served_model_name": "NAME"}\' gives it another name',
            404,
        )
    check_known(body, is_chat)
    tokens, prompt = (chat_prompt if is_chat else completion_prompt)(body, served.tokenizer, served.options)
    if not tokens:
        raise BadRequest("the prompt has no tokens, and an answer needs one at least")
    settings = _settings(body, served)
    asked = Asked(
        settings,
        _max_new_tokens(body, len(tokens), is_chat, served),
        tuple(body.texts("stop")),
        body.number("frequency_penalty", -2, 2, 0.0),
        body.number("presence_penalty", -2, 2, 0.0),
        _num_logprobs(body, is_chat),
        _grammar(body, served, settings),
    )
    asked = with_special_stops(asked, served.tokenizer)
    if (settings.min_new_tokens or 0) > asked.max_new_tokens:
        raise BadRequest(f"min_tokens {settings.min_new_tokens} is more than max_tokens {asked.max_new_tokens}")
    num_answers = body.whole("n", 1, 128, 1)
    if num_answers > 1 and not settings.do_sample:
        raise BadRequest(f"n {num_answers} with temperature 0: all answers would be the same")
    return Request(
        **known,
        tokens=tuple(tokens),
        prompt=prompt,
        asked=asked,
        num_answers=num_answers,
        seed=body.whole("seed", -(2**63), 2**63 - 1, None),
    )


def _settings(body: Body, served: Served) -> Any:
    """Return the generation settings: the body's, else those of the options, of the folder, of OpenAI's API."""
    folder, given = served.settings, given_settings(served.options)

    def default(name: str, otherwise: Any) -> Any:
        value = given.get(name, getattr(folder, name, None))
        return otherwise if value is None else value

    temperature = body.number("temperature", 0, 2, None)
    if temperature is None:
        temperature = 0.0 if given.get("do_sample") is False else default("temperature", 1.0)
    top_k = body.whole("top_k", -1, 2**31, None)
    settings: dict[str, Any] = {
        **given,
        "do_sample": temperature > 0,
        "temperature": temperature or None,
        "top_p": body.number("top_p", 0, 1, default("top_p", 1.0)),
        "top_k": max(0, default("top_k", 0) if top_k is None else top_k),
        "min_p": body.number("min_p", 0, 1, default("min_p", None)) or None,
        "repetition_penalty": body.number("repetition_penalty", 1e-3, 1e3, default("repetition_penalty", 1.0)),
    }
    if (least := body.whole("min_tokens", 0, 2**31, 0)) > 0:
        settings["min_new_tokens"] = least
    size = len(served.tokenizer)
    if biases := body.biases(size):
        settings["sequence_bias"] = [[[token], bias] for token, bias in biases.items()]
    ends = settings.get("eos_token_id", folder.eos_token_id)
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    ends = [*([] if body.flag("ignore_eos", False) else ends), *body.token_ids("stop_token_ids", size)]
    key = json.dumps([settings, ends])
    if key not in served.resolved:
        try:
            served.resolved[key] = resolve(folder, settings)
        except (TypeError, ValueError) as error:
            raise BadRequest(describe(error)) from error
        served.resolved[key].eos_token_id = ends or None
    return served.resolved[key]


def _grammar(body: Body, served: Served, settings: Any) -> str:
    try:
        kind_and_value = wanted(grammar_fields(body)) or wanted(served.options)
        if kind_and_value is None:
            return ""
        if not settings.eos_token_id:
            raise ValueError("a grammar needs a token that ends the answer")
        return grammar_of(*kind_and_value, served.tokenizer)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _max_new_tokens(body: Body, num_prompt: int, is_chat: bool, served: Served) -> int:
    names = ("max_completion_tokens", "max_tokens")
    given = [n for name in names if (n := body.whole(name, 1, 2**31, None)) is not None]
    asked = given[0] if given else served.options.get("max_new_tokens")
    if asked is None and not is_chat:
        asked = _COMPLETION_TOKENS
    room = served.room if served.room is None or served.has_encoder else served.room - num_prompt
    if served.room is not None and served.room < num_prompt:
        room = 0
    if asked is None and room is None:
        raise BadRequest("max_tokens is missing, and the model names no limit of its own")
    if room is not None and room < (1 if asked is None else asked):
        more = f" and max_tokens {asked:,}" if asked is not None else ""
        raise BadRequest(f"the prompt has {num_prompt:,} tokens{more}, and the model takes {served.room:,} in all")
    return room if asked is None else asked  # type: ignore[return-value]


def _num_logprobs(body: Body, is_chat: bool) -> int | None:
    if not is_chat:
        likely: int | None = body.whole("logprobs", 0, _MOST_LOGPROBS, None)
        return likely
    number: int = body.whole("top_logprobs", 0, _MOST_LOGPROBS, 0)
    if number and not body.flag("logprobs", False):
        raise BadRequest("top_logprobs needs logprobs true")
    return number if body.flag("logprobs", False) else None

"""Responses to requests, in the batch format of OpenAI's API.

Identifiers are those of the row and times are 0, so that the same file gives the same bytes on any number of ranks.
"""

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.models.language.answers import FAILED
from runner.models.language.requests import CHAT, Request

_KINDS = {400: "invalid_request_error", 404: "not_found_error"}


@dataclass(frozen=True)
class Answer:
    """One answer to a request.

    Attributes:
        text: its text, without what ended it.
        reason: why it ended: `stop` or `length`.
        tokens: its token ids.
        likely: for each token, itself and the most likely ones, with their log-probabilities; None where not asked for.
    """

    text: str
    reason: str
    tokens: Sequence[int]
    likely: Sequence[Sequence[tuple[int, float]]] | None


def respond(request: Request, row: int, answers: Sequence[Answer], tokenizer: Any) -> dict[str, str | None]:
    """Return the fields of a line of the result: `id` and `custom_id`, text; `response` and `error`, JSON or null.

    Args:
        request: the request.
        row: its number.
        answers: the answers; none where it cannot be served.
        tokenizer: tokenizer of the model.
    """
    body = error = None
    status, why = request.status, request.error
    if any(answer.reason == FAILED for answer in answers):
        status, why = 400, "an answer cannot go on: what is asked excludes every token"
    if why:
        error = {"message": why, "type": _KINDS[status], "param": None, "code": status}
    else:
        body = _body(request, row, answers, tokenizer)
    response = {"status_code": status, "request_id": f"request-{row}", "body": body}
    return {
        "id": f"batch_req_{row}",
        "custom_id": request.custom_id,
        "response": _dumps(response),
        "error": None if error is None else _dumps(error),
    }


def _body(request: Request, row: int, answers: Sequence[Answer], tokenizer: Any) -> dict[str, Any]:
    is_chat = request.url == CHAT
    num_prompt = len(request.tokens)
    num_new = sum(len(answer.tokens) for answer in answers)
    make = _chat_choice if is_chat else _completion_choice
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{row}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": 0,
        "model": request.model,
        "choices": [make(index, answer, request, tokenizer) for index, answer in enumerate(answers)],
        "usage": {"prompt_tokens": num_prompt, "completion_tokens": num_new, "total_tokens": num_prompt + num_new},
    }


def _chat_choice(index: int, answer: Answer, _: Request, tokenizer: Any) -> dict[str, Any]:
    logprobs = None
    if answer.likely is not None:
        logprobs = {
            "content": [
                {**_token(*own, tokenizer), "top_logprobs": [_token(*other, tokenizer) for other in others]}
                for own, *others in answer.likely
            ],
            "refusal": None,
        }
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": logprobs,
        "finish_reason": answer.reason,
    }


def _completion_choice(index: int, answer: Answer, request: Request, tokenizer: Any) -> dict[str, Any]:
    logprobs = None
    if answer.likely is not None:
        words = [tokenizer.decode([own[0]]) for own, *_ in answer.likely]
        ends = [len(request.prompt)]
        for word in words:
            ends.append(ends[-1] + len(word))
        logprobs = {
            "tokens": words,
            "token_logprobs": [own[1] for own, *_ in answer.likely],
            "top_logprobs": [_by_text(others, tokenizer) for _, *others in answer.likely],
            "text_offset": ends[:-1],
        }
    return {
        "index": index,
        "text": request.prompt + answer.text,
        "logprobs": logprobs,
        "finish_reason": answer.reason,
    }


def _by_text(others: Sequence[tuple[int, float]], tokenizer: Any) -> dict[str, float]:
    """Return log-probabilities by the text of tokens, the likeliest first; of tokens that look alike, the likeliest."""
    texts: dict[str, float] = {}
    for token, logprob in others:
        texts.setdefault(tokenizer.decode([token]), logprob)
    return texts


def _token(token: int, logprob: float, tokenizer: Any) -> dict[str, Any]:
    text = tokenizer.decode([token])
    return {"token": text, "logprob": logprob, "bytes": _bytes_of(token, text, tokenizer)}


def _bytes_of(token: int, text: str, tokenizer: Any) -> list[int] | None:
    """Return the bytes of a token, which may be a part of a character; None where the tokenizer does not tell."""
    if "\ufffd" not in text:
        return list(text.encode())
    piece = tokenizer.convert_ids_to_tokens(token)
    if found := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return [int(found[1], 16)]
    letters = _byte_letters()
    return [letters[letter] for letter in piece] if all(letter in letters for letter in piece) else None


@functools.cache
def _byte_letters() -> dict[str, int]:
    """Return the byte that each letter stands for in byte-level tokenizers, as GPT-2's has them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

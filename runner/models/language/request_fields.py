"""The fields of a request's body, read with checks."""

from collections.abc import Mapping
from typing import Any

from runner.core.nearest import did_you_mean

_SHARED = (
    *("model", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "logprobs"),
    *("frequency_penalty", "presence_penalty", "logit_bias", "response_format", "structured_outputs"),
    *("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids"),
)
_OF_CHAT = ("messages", "max_completion_tokens", "top_logprobs", "chat_template_kwargs", "add_generation_prompt")
_OF_COMPLETION = ("prompt", "echo", "add_special_tokens")
# fields that change no answer
_IGNORED = ("user", "metadata", "store", "service_tier", "stream_options", "prompt_cache_key", "safety_identifier")
# fields that are known and not served, with the values that ask for nothing
_NOTHING: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
}


class BadRequest(Exception):
    """A request that cannot be served, with the status code of HTTP."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class Body:
    """The body of a request; a field that is null is not there.

    Args:
        fields: its fields.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = {name: value for name, value in fields.items() if value is not None}

    def get(self, name: str) -> Any:
        """Return a field as it is, or None."""
        return self.fields.get(name)

    def text(self, name: str) -> str | None:
        """Return a text, or None.

        Raises:
            BadRequest: it is none.
        """
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{name} must be text, not {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a text or several.

        Raises:
            BadRequest: one is empty, or none.
        """
        value = self.get(name)
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise BadRequest(f"{name} must be text or a list of texts, not {value!r}")
        return texts

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false.

        Raises:
            BadRequest: it is neither.
        """
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise BadRequest(f"{name} must be true or false, not {value!r}")
        return value

    def number(self, name: str, least: float, most: float, default: Any) -> Any:
        """Return a number from `least` to `most`, or the default.

        Raises:
            BadRequest: it is none, or outside.
        """
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise BadRequest(f"{name} must be a number from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def whole(self, name: str, least: int, most: int, default: Any) -> Any:
        """Return a whole number from `least` to `most`, or the default.

        Raises:
            BadRequest: it is none, or outside.
        """
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadRequest(f"{name} must be a whole number from {least} to {most}, not {value!r}")
        return value

    def token_ids(self, name: str, size: int) -> list[int]:
        """Return token ids below `size`.

        Raises:
            BadRequest: one is none.
        """
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(type(token) is int and 0 <= token < size for token in value):
            raise BadRequest(f"{name} must be a list of token ids from 0 to {size - 1}, not {value!r}")
        return value

    def biases(self, size: int) -> dict[int, float]:
        """Return what is added to the logits of tokens, by token id.

        Raises:
            BadRequest: it is no object of numbers from -100 to 100 by token id.
        """
        value = self.fields.get("logit_bias", {})
        if not isinstance(value, dict):
            raise BadRequest(f"logit_bias must be an object, not {value!r}")
        biases = {}
        for token, bias in value.items():
            if not token.isdecimal() or int(token) >= size:
                raise BadRequest(f"logit_bias: {token!r} is no token id from 0 to {size - 1}")
            if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
                raise BadRequest(f"logit_bias must be numbers from -100 to 100, not {bias!r}")
            biases[int(token)] = float(bias)
        return biases


def grammar_fields(body: Body) -> dict[str, Any]:
    """Return the fields that ask for a grammar, by the names of `grammars.KINDS`.

    Raises:
        BadRequest: they are not valid.
    """
    form, structure = body.fields.get("response_format", {"type": "text"}), body.fields.get("structured_outputs", {})
    if not isinstance(form, dict) or not isinstance(structure, dict):
        raise BadRequest("response_format and structured_outputs must be objects")
    names = {"json": "json_schema", "regex": "regex", "choice": "choice", "grammar": "grammar"}
    for name in structure:
        if name not in names:
            raise BadRequest(f"structured_outputs: {name} is not one of {', '.join(names)}")
    fields = {names[name]: value for name, value in structure.items()}
    kind = form.get("type")
    if kind == "json_object":
        return {**fields, "json_schema": {"type": "object"}}
    if kind == "json_schema":
        schema = form.get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
            raise BadRequest("response_format: json_schema must be an object with a schema")
        return {**fields, "json_schema": schema["schema"]}
    if kind != "text":
        raise BadRequest(f"response_format: type {kind!r} is not one of text, json_object, json_schema")
    return fields


def check_known(body: Body, is_chat: bool) -> None:
    """Raise BadRequest where a field is unknown, or asks for what is not served: nothing is passed over."""
    known = (*_SHARED, *(_OF_CHAT if is_chat else _OF_COMPLETION))
    for name, value in body.fields.items():
        if name in known or name in _IGNORED:
            continue
        if name not in _NOTHING:
            raise BadRequest(f"{name} is not a known field{did_you_mean(name, known)}")
        if value not in _NOTHING[name]:
            raise BadRequest(f"{name} {value!r} is not served")

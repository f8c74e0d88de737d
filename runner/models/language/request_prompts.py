"""The prompts of requests as token ids."""

from collections.abc import Mapping
from typing import Any

from runner.core.errors import describe
from runner.models.language.chat import not_of_template
from runner.models.language.request_fields import BadRequest, Body


def chat_prompt(body: Body, tokenizer: Any, options: Mapping[str, Any]) -> tuple[list[int], str]:
    """Return the token ids of a conversation; its text is never repeated.

    Raises:
        BadRequest: it is none, or the model has no template for it.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of messages, of one at least")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("each of the messages must be an object with role and content")
    if not tokenizer.chat_template:
        raise BadRequest("the tokenizer of the model has no chat template")
    more = body.get("chat_template_kwargs") or {}
    if not isinstance(more, dict):
        raise BadRequest("chat_template_kwargs must be an object")
    if why := not_of_template(tokenizer, more):
        raise BadRequest(why)
    try:
        encoded = tokenizer.apply_chat_template(
            [_plain(message) for message in messages],
            tokenize=True,
            add_generation_prompt=body.flag("add_generation_prompt", True),
            return_dict=True,
            **{**options.get("chat_template_kwargs", {}), **more},
        )
    except Exception as error:
        raise BadRequest(f"the chat template of the model's tokenizer failed: {describe(error)}") from error
    return list(encoded["input_ids"]), ""


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with its content as text, where that is a list of texts."""
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise BadRequest("a part of a message's content is no text, and this model takes text alone")
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise BadRequest("the content of a message must be text")
    return {**{name: value for name, value in message.items() if value is not None}, "content": content}


def completion_prompt(body: Body, tokenizer: Any, _: Mapping[str, Any]) -> tuple[list[int], str]:
    """Return the token ids of a prompt, and its text where that is to be repeated before the answer.

    Raises:
        BadRequest: it is none.
    """
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    echoes = body.flag("echo", False)
    if isinstance(prompt, str):
        add = body.flag("add_special_tokens", True)
        return list(tokenizer(prompt, add_special_tokens=add)["input_ids"]), prompt if echoes else ""
    size = len(tokenizer)
    if isinstance(prompt, list) and prompt and all(type(token) is int and 0 <= token < size for token in prompt):
        return prompt, tokenizer.decode(prompt, skip_special_tokens=True) if echoes else ""
    raise BadRequest("prompt must be one text, or one list of token ids of the model; give several in several requests")

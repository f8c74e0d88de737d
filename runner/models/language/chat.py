"""Conversations as tokens, by the chat template of a tokenizer."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.core.errors import ModelError, RowError, UsageError, describe
from runner.models.transformers.token_encoding import Encoder


class ChatEncoder(Encoder):
    """A tokenizer that puts each text into its chat template, as what the user says, with the model's turn after it.

    The template has the special tokens; none is added to it. What is too long is cut off the text, and not off the
    template around it.

    Args:
        tokenizer: tokenizer of Transformers, with a chat template.
        max_length: the most tokens of a row; None for no limit.
        system: system message before each text; None for none.
        are_messages: whether each text is the JSON of a conversation: a list of messages.
        more: more values for the template, such as `enable_thinking`.
    """

    def __init__(
        self, tokenizer: Any, max_length: int | None, system: str | None, are_messages: bool, more: dict[str, Any]
    ) -> None:
        super().__init__(tokenizer, max_length)
        if why := not_of_template(tokenizer, more):
            raise UsageError(f"--model-args: {why}")
        self._before = [] if system is None else [{"role": "system", "content": system}]
        self._are_messages = are_messages
        self._more = more

    def _encode(self, *texts: list[str]) -> dict[str, list[Any]]:
        rows = self._render(self._conversations(*texts))
        limit = self.max_length
        if limit is not None:
            long = [index for index, row in enumerate(rows) if len(row) > limit]
            for index in long:
                rows[index] = rows[index][:limit] if self._are_messages else self._cut(texts[0][index], limit)
        return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}

    def _full(self, texts: Sequence[list[str]], rows: list[int]) -> list[int]:
        return [len(ids) for ids in self._render(self._conversations([texts[0][row] for row in rows]))]

    def _conversations(self, *texts: list[str]) -> list[list[dict[str, Any]]]:
        if len(texts) > 1:
            raise ModelError(
                f"a conversation is made of one text a row, not of {len(texts)} columns: make one of them with --prompt"
            )
        if self._are_messages:
            return [_messages(text) for text in texts[0]]
        return [[*self._before, {"role": "user", "content": text}] for text in texts[0]]

    def _render(self, conversations: list[list[dict[str, Any]]]) -> list[list[int]]:
        try:
            encoded = self.tokenizer.apply_chat_template(
                conversations, tokenize=True, add_generation_prompt=True, return_dict=True, **self._more
            )
        except Exception as error:
            raise RowError(f"the chat template of the model's tokenizer failed: {describe(error)}") from error
        return list(encoded["input_ids"])

    def _cut(self, text: str, limit: int) -> list[int]:
        """Return the tokens of a conversation of which the text has lost what is too much."""
        words = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        row = self._render(self._conversations([text]))[0]
        while len(row) > limit and words:
            too_many = len(row) - limit
            words = words[too_many:] if self.tokenizer.truncation_side == "left" else words[:-too_many]
            row = self._render(self._conversations([self.tokenizer.decode(words)]))[0]
        return row[:limit]


def not_of_template(tokenizer: Any, values: Mapping[str, Any]) -> str:
    """Return why some values are not for the chat template, but arguments of the function that applies it; else ""."""
    own = [name for name in values if name in inspect.signature(tokenizer.apply_chat_template).parameters]
    return f"chat_template_kwargs: {' and '.join(own)} is not for the template" if own else ""


def _messages(text: str) -> list[dict[str, Any]]:
    """Return the messages of a conversation.

    Raises:
        RowError: the text is none.
    """
    try:
        messages = json.loads(text)
        messages = json.loads(messages) if isinstance(messages, str) else messages  # a column of text that is JSON
    except (ValueError, RecursionError) as error:
        raise RowError(f"a conversation is no JSON: {error}") from error
    if not isinstance(messages, list) or not messages:
        raise RowError("a conversation must be a list of messages, of one at least")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise RowError("each message of a conversation must be an object with role and content")
    return [{name: value for name, value in message.items() if value is not None} for message in messages]

"""Lines of requests as batches of prompts; for the thread that reads ahead."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runner.config.options import Config
from runner.data.tensors import Tokens
from runner.models.language.requests import Request, Served, parse_request
from runner.models.transformers.tokenizer import FolderTokenizer


class RequestEncoder:
    """A parser of lines that hold requests, which makes prompts of them.

    The requests of the last call of `lengths` are cached, so that a chunk is parsed once.

    Args:
        make_served: returns what serves the requests; called once, where it is first needed.

    Attributes:
        new_tokens: about how many tokens an answer has.
    """

    new_tokens = 64

    def __init__(self, make_served: Callable[[], Served]) -> None:
        self._make_served = make_served
        self._served: Served | None = None
        self._parsed: dict[str, Request] = {}

    def __call__(self, lines: list[str]) -> Tokens:
        """Return prompts, `input_ids` and `attention_mask`, int64 `(batch, longest)`, and the requests by themselves.

        A request that cannot be served has a prompt of one token, which is not used.
        """
        requests = [self._parsed.get(line) or self._parse(line) for line in lines]
        lengths = [max(1, len(request.tokens)) for request in requests]
        ids = torch.zeros((len(requests), max(lengths)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (request, length) in enumerate(zip(requests, lengths, strict=True)):
            ids[row, : len(request.tokens)] = torch.tensor(request.tokens, dtype=torch.long)
            mask[row, :length] = 1
        refused = [request.error for request in requests]
        return Tokens(
            {"input_ids": ids, "attention_mask": mask, "requests": requests}, [0] * len(requests), None, refused
        )

    def lengths(self, lines: Sequence[str]) -> list[int]:
        """Return the most tokens that each prompt and the answer to it have together: a batch waits for the longest."""
        self._parsed = {line: self._parse(line) for line in lines}
        return [
            len(one.tokens) + (one.asked.max_new_tokens if one.asked else 0)
            for one in map(self._parsed.get, lines)
            if one
        ]

    def _parse(self, line: str) -> Request:
        if self._served is None:
            self._served = self._make_served()
        return parse_request(line, self._served)


def names_of(path: str, own: Any) -> tuple[str, ...]:
    """Return the names that a request may have for a model: the given one, else its path and the folder's own name.

    Args:
        path: path of the model's folder.
        own: name that the user gives it; None for none.
    """
    folder = path.rstrip("/")
    return (str(own),) if own is not None else tuple(dict.fromkeys([folder.rpartition("/")[2], folder, path]))


def make_request_encoder(config: Config, generation: Any, tokenizer: FolderTokenizer) -> RequestEncoder:
    """Return the encoder of rows that are requests.

    Args:
        config: the options.
        generation: generation settings of the folder.
        tokenizer: its tokenizer.
    """

    def serve() -> Served:
        names = names_of(str(config.model), config.model_args.get("served_model_name"))
        return Served(names, generation, *tokenizer.room, tokenizer.library, config.model_args)

    return RequestEncoder(serve)

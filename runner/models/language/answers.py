"""The answers of a batch while they grow: the choice of each next token, and the end of each answer.

A row is processed by the library's own logits processors, and where these look at tokens, they see the row without its
padding: so an answer does not depend on the other rows of its batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runner.models.language.asked import Asked, make_processors
from runner.models.language.sampling import Key, sample

LENGTH = "length"
STOP = "stop"
FAILED = "error"  # no token is left to choose
REASONS = (LENGTH, STOP, FAILED)


class Answers:
    """The answers of a batch, while they grow.

    Args:
        model, tensors, asked, keys, num_logprobs, tokenizer: see `generate`.

    Attributes:
        tokens: tokens of each answer so far.
        reasons: why each has ended; empty while it has not.
        likely, logprobs: of each position, `(batch, 1 + k)`; see `generate`.
    """

    def __init__(
        self,
        model: Any,
        tensors: Mapping[str, torch.Tensor],
        asked: Sequence[Asked],
        keys: Sequence[Key],
        num_logprobs: int,
        tokenizer: Any,
    ) -> None:
        self.tokens: list[list[int]] = [[] for _ in asked]
        self.reasons = [""] * len(asked)
        self.likely: list[torch.Tensor] = []
        self.logprobs: list[torch.Tensor] = []
        self._num_logprobs = num_logprobs
        self._model = model
        self._asked = asked
        self._keys = keys
        self._tokenizer = tokenizer
        self._prompts = tensors["input_ids"]
        self._lengths: list[int] = tensors["attention_mask"].long().sum(dim=1).tolist()
        self._groups: list[_Group] = []
        self._criteria = [self._criterion(one.settings) for one in asked]
        self._ends = [one.ends for one in asked]

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the next token of each row, int64 `(batch,)`; any token where an answer has ended."""
        if not self._groups:
            self._groups = self._grouped(ids.shape[1])
        active = [row for row, reason in enumerate(self.reasons) if not reason]
        if bool(torch.isnan(logits[active]).any()):
            raise ValueError("the model gave logits that are not a number")
        chosen = logits.argmax(dim=1)
        for group in self._groups:
            rows = [row for row in group.rows if not self.reasons[row]]
            if rows and (group.processors or group.samples):
                chosen[rows] = self._pick(group, rows, ids[rows, group.padding :], logits[rows])
        if self._num_logprobs >= 0:
            logprobs = torch.log_softmax(logits, dim=1)
            tokens = torch.cat([chosen[:, None], logprobs.topk(self._num_logprobs, dim=1).indices], dim=1)
            self.likely.append(tokens)
            self.logprobs.append(logprobs.gather(1, tokens))
        return chosen

    def _pick(self, group: "_Group", rows: list[int], ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the next tokens of rows that are processed alike; a row for which none is left has failed."""
        scores: torch.Tensor = group.processors(ids, logits)
        chosen = scores.argmax(dim=1)
        for index, (row, most) in enumerate(zip(rows, scores.amax(dim=1).tolist(), strict=True)):
            if most == -torch.inf:
                self.reasons[row] = FAILED
            elif group.samples:
                chosen[index] = sample(scores[index], self._keys[row], len(self.tokens[row]))
        return chosen

    def end(self, ids: torch.Tensor) -> list[bool]:
        """Add the last tokens of `ids` to the answers; return for each whether it has ended."""
        for row, token in enumerate(ids[:, -1].tolist()):
            if not self.reasons[row]:
                self.tokens[row].append(token)
                self.reasons[row] = self._reason(row, token, ids)
        return [bool(reason) for reason in self.reasons]

    def _reason(self, row: int, token: int, ids: torch.Tensor) -> str:
        asked = self._asked[row]
        if token in self._ends[row]:
            return STOP
        if asked.stop and cut_at_stop(self.tokens[row], asked, self._tokenizer)[1]:
            return STOP
        criterion = self._criteria[row]
        if criterion is not None and bool(criterion(ids[row : row + 1, self._padding(row) :], None)):
            return STOP
        return LENGTH if len(self.tokens[row]) == asked.max_new_tokens else ""

    def _criterion(self, settings: Any) -> Any:
        if not settings.stop_strings:
            return None
        from transformers import StopStringCriteria

        return StopStringCriteria(self._tokenizer, settings.stop_strings)

    def _padding(self, row: int) -> int:
        return 0 if self._model.config.is_encoder_decoder else self._prompts.shape[1] - self._lengths[row]

    def _grouped(self, start: int) -> list["_Group"]:
        """Return the rows in groups that are processed alike, each row by itself where its own tokens count."""
        together: dict[int, list[int]] = {}
        groups = []
        for row, asked in enumerate(self._asked):
            if asked.reads_each_row:
                padding, prompt = self._padding(row), self._prompts[row : row + 1, : self._lengths[row]]
                processors = make_processors(self._model, asked, start - padding, prompt, self._tokenizer)
                groups.append(_Group([row], processors, bool(asked.settings.do_sample), padding))
            else:
                together.setdefault(id(asked), []).append(row)
        for rows in together.values():
            asked = self._asked[rows[0]]
            groups.append(_Group(rows, make_processors(self._model, asked, start), bool(asked.settings.do_sample), 0))
        return groups


@dataclass(frozen=True)
class _Group:
    rows: list[int]
    processors: Any
    samples: bool
    padding: int


def cut_at_stop(tokens: Sequence[int], asked: Asked, tokenizer: Any) -> tuple[str, bool]:
    """Return the text of tokens before the first stop string in it, and whether there is one.

    Where so many tokens are asked for at least, strings within these do not count.
    """
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    least = asked.settings.min_new_tokens or 0
    start = len(tokenizer.decode(tokens[:least], skip_special_tokens=True)) if least else 0
    places = [place for stop in asked.stop if (place := text.find(stop, start)) >= 0]
    return (text[: min(places)], True) if places else (text, False)

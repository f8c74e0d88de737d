"""A model of Transformers that answers each row with new tokens, with their text, or a request with a response."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from runner.core.errors import UsageError, describe
from runner.data.tensors import JsonList
from runner.models.language.answers import FAILED, REASONS, cut_at_stop
from runner.models.language.asked import Asked, make_processors, with_special_stops
from runner.models.language.decoding import generate, neutral_settings
from runner.models.language.grammars import grammar_of, wanted
from runner.models.language.requests import Request
from runner.models.language.responses import Answer, respond
from runner.models.language.sampling import Key
from runner.models.language.settings import SETTINGS, check_token_ids, check_types, given_settings, resolve

DEFAULT_SEED = 0
Tensors = Mapping[str, torch.Tensor]


def what_is_asked(settings: Any, options: Mapping[str, Any]) -> Asked:
    """Return what the options ask of each row.

    Args:
        settings: generation settings of the folder.
        options: `--model-args`.

    Raises:
        UsageError: a setting is not valid.
    """
    try:
        check_types(given_settings(options))
        resolved = resolve(settings, given_settings(options))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--model-args: {describe(error)}") from error
    stop = options.get("stop", ())
    return Asked(resolved, options.get("max_new_tokens", 1), (stop,) if isinstance(stop, str) else tuple(stop))


class Generator:
    """A model that generates.

    Args:
        model: model of Transformers; its generation settings are replaced.
        asked: what is asked of each row.
        options: `--model-args`.
        make_tokenizer: returns a tokenizer of the model, for this thread alone; called where text is needed.

    Attributes:
        samples: whether tokens are drawn, so that an answer depends on the number of its row.
        counts: of each row of the last batch: tokens of prompt and answers, and answers by why they ended.

    Raises:
        UsageError: a setting is not valid for the model.
    """

    def __init__(self, model: Any, asked: Asked, options: Mapping[str, Any], make_tokenizer: Callable[[], Any]) -> None:
        self._model = model
        self._asked = asked
        self._gives_text = bool(options.get("decode"))
        self._seed = options.get("seed", DEFAULT_SEED)
        self.samples = bool(asked.settings.do_sample)
        model.generation_config = neutral_settings(model, asked.settings)
        self._make_tokenizer = make_tokenizer
        self.counts: dict[str, list[int]] = {}
        try:
            check_token_ids(asked.settings, model.config.get_text_config().vocab_size)
            if asked.stop:
                self._asked = asked = with_special_stops(asked, self._tokenizer)
            if grammar := wanted(options):
                self._asked = asked = replace(asked, grammar=grammar_of(*grammar, self._tokenizer))
            if asked.grammar and not asked.ends:
                raise ValueError("a grammar needs a token that ends the answer, and the settings name none")
            prompt = torch.zeros((1, 1), dtype=torch.long, device=model.device)
            make_processors(model, asked, 1, prompt, self._tokenizer if asked.needs_tokenizer else None)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--model-args: {describe(error)}") from error

    def __call__(self, call: Callable[..., Any], arguments: Tensors, numbers: Sequence[int]) -> Any:
        """Return the answers to a batch.

        Args:
            call: calls a function with rows that may be in one batch; see `lengths.call_apart`.
            arguments: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows.
            numbers: numbers of the rows.

        Returns:
            Tokens, int64 `(batch, max_new_tokens)`, padded after the end; or by name the texts, why they ended, and
            the numbers of tokens of prompts and answers, int64 `(batch,)`.
        """
        lengths = arguments["attention_mask"].sum(dim=1).tolist()
        if 0 in lengths:
            raise ValueError(f"row {numbers[lengths.index(0)]} has no tokens, and an answer needs one at least")
        asked = [self._asked] * len(numbers)
        result = self._generate(call, arguments, asked, [Key(self._seed, row) for row in numbers])
        failed = (result["reasons"] == REASONS.index(FAILED)).nonzero()[:, 0].tolist()
        if failed:
            raise ValueError(f"the answer to row {numbers[failed[0]]} cannot go on: the settings exclude every token")
        self._count(range(len(numbers)), len(numbers), arguments, result)
        if not self._gives_text:
            return result["tokens"]
        answers = self._answers(result, asked)
        return {
            "text": [answer.text for answer in answers],
            "finish_reason": [answer.reason for answer in answers],
            "prompt_tokens": arguments["attention_mask"].long().sum(dim=1),
            "completion_tokens": result["num_tokens"],
        }

    def respond(
        self, call: Callable[..., Any], arguments: Tensors, requests: Sequence[Request], numbers: Sequence[int]
    ) -> dict[str, Any]:
        """Return the responses to requests by name, as columns; see `responses.respond`.

        Args:
            call, arguments, numbers: see `__call__`.
            requests: the requests.
        """
        places = [row for row, request in enumerate(requests) for _ in range(request.num_answers) if request.asked]
        asked = [one for row in places if (one := requests[row].asked) is not None]
        keys = [
            Key(self._seed, numbers[row], sample) if request.seed is None else Key(request.seed, 0, sample)
            for row, request in enumerate(requests)
            if request.asked
            for sample in range(request.num_answers)
        ]
        answers: list[Answer] = []
        result: dict[str, torch.Tensor] = {}
        if places:
            some = {name: tensor[places] for name, tensor in arguments.items()}
            result = self._generate(call, some, asked, keys)
            answers = self._answers(result, asked)
        self._count(places, len(requests), arguments, result)
        of_row: dict[int, list[Answer]] = {}
        for row, answer in zip(places, answers, strict=True):
            of_row.setdefault(row, []).append(answer)
        rows = [
            respond(request, numbers[row], of_row.get(row, ()), self._tokenizer) for row, request in enumerate(requests)
        ]
        texts = {name: [str(row[name]) for row in rows] for name in ("id", "custom_id")}
        return {**texts, **{name: JsonList(row[name] for row in rows) for name in ("response", "error")}}

    def facts(self) -> dict[str, str]:
        """Return the generation settings that are not the defaults of Transformers, in words."""
        settings = self._asked.settings
        usual = settings._get_default_generation_params()
        values = {name: getattr(settings, name, None) for name in SETTINGS}
        own = [f"{name} {value!r}" for name, value in values.items() if value not in (None, usual.get(name))]
        return {"answers": ", ".join([*own, f"max_new_tokens {self._asked.max_new_tokens}"])}

    def _generate(
        self, call: Callable[..., Any], arguments: Tensors, asked: Sequence[Asked], keys: Sequence[Key]
    ) -> dict[str, torch.Tensor]:
        width = max(one.max_new_tokens for one in asked)
        num_logprobs = max((-1 if one.num_logprobs is None else one.num_logprobs for one in asked), default=-1)
        needs_text = any(one.needs_tokenizer for one in asked)

        def generate_some(places: torch.Tensor, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            rows = places.tolist()
            some, some_keys = [asked[row] for row in rows], [keys[row] for row in rows]
            tokenizer = self._tokenizer if needs_text else None
            return generate(self._model, tensors, some, some_keys, width, num_logprobs, tokenizer)

        places = torch.arange(len(asked), device=arguments["input_ids"].device)
        result: dict[str, torch.Tensor] = call(generate_some, {**arguments, "places": places})
        return result

    def _count(self, places: Sequence[int], num_rows: int, arguments: Tensors, result: Tensors) -> None:
        """Count what was given and answered, by row.

        Args:
            places: the row of each answer.
            num_rows: number of rows.
            arguments: the prompts of all rows.
            result: the answers; empty where there are none.
        """
        names = ("prompt_tokens", "completion_tokens", *(f"ended_by_{reason}" for reason in REASONS))
        self.counts = {name: [0] * num_rows for name in names}
        lengths = arguments["attention_mask"].long().sum(dim=1).tolist()
        ends = zip(places, result["num_tokens"].tolist(), result["reasons"].tolist(), strict=True) if result else ()
        for row, num_tokens, reason in ends:
            self.counts["prompt_tokens"][row] = lengths[row]
            self.counts["completion_tokens"][row] += num_tokens
            self.counts[f"ended_by_{REASONS[reason]}"][row] += 1

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return self._make_tokenizer()

    def _answers(self, result: Tensors, asked: Sequence[Asked]) -> list[Answer]:
        rows = zip(result["tokens"].tolist(), result["num_tokens"].tolist(), strict=True)
        tokens = [row[:length] for row, length in rows]
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        answers = []
        for row, (one, text, reason) in enumerate(zip(asked, texts, result["reasons"].tolist(), strict=True)):
            before_stop = cut_at_stop(tokens[row], one, self._tokenizer)[0] if one.stop else text
            likely = None
            if one.num_logprobs is not None:
                count = 1 + one.num_logprobs
                ids, values = (
                    result[name][row, : len(tokens[row]), :count].tolist() for name in ("likely", "logprobs")
                )
                likely = [list(zip(*pair, strict=True)) for pair in zip(ids, values, strict=True)]
            answers.append(Answer(before_stop, REASONS[reason], tokens[row], likely))
        return answers

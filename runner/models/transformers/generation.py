"""Greedy decoding by Transformers' `generate`, with the generation settings of a folder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

# Settings that ask for another way of decoding, with the value that asks for none.
_OTHER_DECODING = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "penalty_alpha": None,
    "dola_layers": None,
    "constraints": None,
    "force_words_ids": None,
    "max_time": None,
    "token_healing": False,
}
# Settings that only samplers read; greedy decoding gives the same with any value of them.
_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# Settings that affect neither a token nor a row's padding: speed, and the outputs of `generate` beside the tokens.
_OF_SPEED = {
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "use_mtp": None,
    "return_dict_in_generate": None,
    "output_attentions": None,
    "output_hidden_states": None,
    "output_scores": None,
    "output_logits": None,
}
# Settings with the same effect on a row however it is padded; of all other settings that is not known.
_BLIND_TO_PADDING = {
    *_OTHER_DECODING,
    *_OF_SAMPLING,
    *_OF_SPEED,
    "eos_token_id",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "max_length",
    "max_new_tokens",
    "min_new_tokens",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_eos_token_id",
    "renormalize_logits",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "early_stopping",
    "length_penalty",
    "diversity_penalty",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "transformers_version",
    "is_assistant",
    "low_memory",
}

# Values of settings that ask for nothing.
_NEUTRAL = {
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "guidance_scale": 1,
}


def read_settings(transformers: Any, folder: str) -> Any:
    """Return the generation settings that `from_pretrained` would give a model of this folder.

    Args:
        transformers: the library.
        folder: folder with the files besides the weights.
    """
    read = transformers.GenerationConfig.from_pretrained
    try:
        return read(folder, local_files_only=True)
    except OSError:  # there is no generation_config.json; config.json may hold some
        return read(folder, config_file_name="config.json", _from_model_config=True, local_files_only=True)


def other_decoding(settings: Any) -> str:
    """Describe the settings that greedy decoding does not follow; empty where there are none."""
    values = {name: getattr(settings, name, None) for name in (*_OTHER_DECODING, *_OF_SAMPLING)}
    asked = [name for name, none in _OTHER_DECODING.items() if values[name] not in (None, False, none)]
    if values["do_sample"]:
        asked += [name for name in _OF_SAMPLING if values[name] is not None]
    return ", ".join(f"{name} {values[name]!r}" for name in asked)


def make_greedy(settings: Any) -> None:
    """Change generation settings to greedy decoding of one answer a row that returns its tokens alone."""
    for name in (*_OTHER_DECODING, *_OF_SAMPLING, *_OF_SPEED):
        if getattr(settings, name, None) is not None:
            setattr(settings, name, None)


def reads_the_prompt(settings: Any) -> bool:
    """Return whether a setting may depend on the tokens before the new ones, and so on padding."""
    known = vars(type(settings)()).keys() - _BLIND_TO_PADDING  # a folder may have other settings, which are never read
    asked = {name: getattr(settings, name, None) for name in known if not name.startswith("_")}
    return any(value is not None and value != _NEUTRAL.get(name) for name, value in asked.items())


def padding_token(model: Any) -> int:
    """Return the token that pads a row after its end."""
    for settings in (model.generation_config, model.config):
        for name in ("pad_token_id", "eos_token_id"):
            token = getattr(settings, name, None)
            if token is not None:
                return int(token[0] if isinstance(token, list) else token)
    return 0


def generate(
    model: Any, max_new_tokens: int, tensors: Mapping[str, torch.Tensor], tokenizer: Any = None
) -> torch.Tensor:
    """Return the tokens `(batch, max_new_tokens)` that greedy decoding adds; a row is padded after its end.

    Args:
        model: model of Transformers; its generation settings apply, except those that ask for another decoding.
        max_new_tokens: number of new tokens of each row.
        tensors: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows, and others of that shape.
        tokenizer: tokenizer of the model, where its settings name strings to stop at.
    """
    padding = padding_token(model)
    moved = _at_the_right(tensors)
    longest = moved["input_ids"].shape[1]
    generated = model.generate(
        **moved,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=padding,
        **({"tokenizer": tokenizer} if tokenizer is not None else {}),
    )[:, longest:]
    missing = max_new_tokens - generated.shape[1]  # above 0 where all rows of the batch have ended earlier
    tokens: torch.Tensor = nn.functional.pad(generated, (0, missing), value=padding)
    return tokens


def logits_of_new(model: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits `(batch, 2, tokens)` of two new tokens of each row, for comparison; the first token is fixed.

    Args:
        model, tensors: see `generate`.
    """
    token = 1
    generated = model.generate(
        **_at_the_right(tensors),
        max_new_tokens=2,
        do_sample=False,
        num_beams=1,
        pad_token_id=token,
        eos_token_id=None,
        stop_strings=None,
        prefix_allowed_tokens_fn=lambda row, ids: [token],
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(generated.logits, dim=1)


def _at_the_right(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return rows right-aligned in their batch, because new tokens are added at the end."""
    mask = tensors["attention_mask"]
    longest = mask.shape[1]
    places = torch.arange(longest, device=mask.device) - (longest - mask.long().sum(dim=1))[:, None]
    moved = {
        name: torch.where(places >= 0, tensor.gather(1, places.clamp(min=0)), 0)
        for name, tensor in tensors.items()
        if tensor.shape == mask.shape
    }
    return {**moved, "attention_mask": (places >= 0).long()}

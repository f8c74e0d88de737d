"""Generation settings: those of a folder, as Transformers reads them, then those of the user."""

import copy
from collections.abc import Mapping
from typing import Any

# Settings of Transformers that a user may give; all decide which token comes next, or when an answer ends.
SETTINGS = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "sequence_bias",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "renormalize_logits",
    "remove_invalid_values",
    "eos_token_id",
    "stop_strings",
)
# Their types, where these are simple.
FLAGS = ("do_sample", "renormalize_logits", "remove_invalid_values")
COUNTS = ("top_k", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens")
NUMBERS = (
    *("temperature", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"),
)
TOKEN_IDS = ("suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "eos_token_id")
# Settings that ask for another way of decoding, with the value that asks for none.
_OTHER_DECODING = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "penalty_alpha": None,
    "dola_layers": None,
    "constraints": None,
    "force_words_ids": None,
    "max_time": None,
    "token_healing": False,
    "watermarking_config": None,
}
# Settings that affect no token: speed, and the outputs of `generate` beside the tokens.
_OF_SPEED = (
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "use_mtp",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
)
# Settings that only sampling reads.
_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# Settings that read the tokens before the new ones, or count them, with the value that asks for nothing.
_OF_EACH_ROW = {
    "repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "min_length": 0,
    "forced_eos_token_id": None,
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
    """Describe the settings that ask for another decoding than one answer of greedy choices or samples; else ""."""
    asked = {name: getattr(settings, name, None) for name, none in _OTHER_DECODING.items()}
    return ", ".join(
        f"{name} {value!r}" for name, value in asked.items() if value not in (None, False, _OTHER_DECODING[name])
    )


def drop_other_decoding(settings: Any) -> None:
    """Change settings to those of one answer a row, of greedy choices or samples, that gives its tokens alone."""
    for name in (*_OTHER_DECODING, *_OF_SPEED):
        if getattr(settings, name, None) is not None:
            setattr(settings, name, None)


def resolve(settings: Any, given: Mapping[str, Any]) -> Any:
    """Return settings with some given ones in place of theirs, and the defaults of Transformers where there are none.

    Args:
        settings: `GenerationConfig` of the folder.
        given: settings by name, of `SETTINGS`.

    Raises:
        ValueError: a value is not valid, or two contradict each other.
    """
    resolved = copy.deepcopy(settings)
    resolved.update(**given)
    resolved.update(**resolved._get_default_generation_params(), defaults_only=True)
    resolved.validate()
    return resolved


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the generation settings among `--model-args`."""
    return {name: options[name] for name in SETTINGS if name in options}


def check_types(given: Mapping[str, Any]) -> None:
    """Raise ValueError where a given setting is of another type than it has."""
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in FLAGS and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
        if name in NUMBERS and not is_number:
            raise ValueError(f"{name} must be a number, not {value!r}")
        if name in COUNTS and (not is_number or value != int(value) or value < 0):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        ids = value if isinstance(value, list) else [value]
        if name in TOKEN_IDS and not all(type(token) is int for token in ids):
            raise ValueError(f"{name} must be a token id or a list of them, not {value!r}")


def check_token_ids(settings: Any, size: int) -> None:
    """Raise ValueError where a setting names a token that the vocabulary, of so many, does not have."""
    biased = settings.sequence_bias or []
    named = {name: getattr(settings, name, None) for name in TOKEN_IDS}
    named["bad_words_ids"] = [token for word in settings.bad_words_ids or [] for token in word]
    named["sequence_bias"] = [t for pair in biased for t in (pair[0] if isinstance(biased, list) else pair)]
    for name, ids in named.items():
        for token in ids if isinstance(ids, list | tuple) else [ids]:
            if token is not None and not 0 <= token < size:
                raise ValueError(f"{name}: {token} is no token id from 0 to {size - 1}")


def without_effect(settings: Any, given: Mapping[str, Any]) -> list[str]:
    """Return the names among the given settings that do nothing while decoding is greedy."""
    return [] if settings.do_sample else [name for name in _OF_SAMPLING if given.get(name) is not None]


def reads_each_row(settings: Any) -> bool:
    """Return whether a setting depends on a row's own tokens or their number, so that padding must be hidden."""
    values = {name: getattr(settings, name, None) for name in _OF_EACH_ROW}
    return any(value is not None and value != _OF_EACH_ROW[name] for name, value in values.items())


def padding_token(model: Any, settings: Any) -> int:
    """Return the token that pads a row after its end.

    Args:
        model: model of Transformers.
        settings: its generation settings.
    """
    for place in (settings, model.config):
        for name in ("pad_token_id", "eos_token_id"):
            token = getattr(place, name, None)
            if token is not None:
                return int(token[0] if isinstance(token, list) else token)
    return 0

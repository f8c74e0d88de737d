"""Small Transformers models with random weights, texts, and tokenizers, saved as folders by the libraries."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 100, "bos_token_id": 98, "eos_token_id": 99}
WORDS = ["gradient", "tensor", "rank", "node", "queue", "möglich", "表", "allocation", "batch"]


def save(folder: Path, name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    architecture = getattr(transformers, name)
    model = architecture(architecture.config_class(**settings)).eval()
    model.save_pretrained(folder / "model")
    return model


def sentences(seed: int = 0, num_rows: int = 203) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(length))) for length in rng.integers(1, 30, num_rows)]


def save_tokenizer(folder: Path, **settings: Any) -> Any:
    """A word tokenizer, as the libraries write it."""
    inner = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[EOS]"])
    inner.train_from_iterator(sentences(), trainer)
    tokenize_texts = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", **settings)
    tokenize_texts.save_pretrained(folder / "model")
    return tokenize_texts

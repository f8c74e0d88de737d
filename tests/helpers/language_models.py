"""Small language models with random weights, with real tokenizers and chat templates, saved by their libraries."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXTS = [
    "the quick brown fox",
    "rank node queue allocation batch gradient tensor node",
    "möglich 表",
    "a",
    "jumps over the lazy dog and the quick brown fox once more, and then again",
    "system user assistant",
]
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking is defined %}{{ thinking }}{% endif %}"
    "{% endif %}"
)
_SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
_SIZE = 320  # two ranks can split it
_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_COMMON = {"vocab_size": _SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BART = {
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64},
    "forced_eos_token_id": 2,
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_LAYERS, "num_key_value_heads": 2, "max_position_embeddings": 128}),
    "qwen2": ("Qwen2ForCausalLM", {**_LAYERS, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {**_LAYERS, "num_key_value_heads": 2, "head_dim": 8}),
    "gemma3": ("Gemma3ForCausalLM", {**_LAYERS, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
    "mistral": ("MistralForCausalLM", {**_LAYERS, "num_key_value_heads": 2, "sliding_window": 8}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
}
ENCODER_DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5ForConditionalGeneration", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
    "bart": ("BartForConditionalGeneration", {**_BART, "decoder_start_token_id": 2}),
    "marian": ("MarianMTModel", {**_BART, "decoder_start_token_id": 0}),
}


def save_language_model(folder: Path, name: str, template: str | None = CHAT) -> None:
    """Save the model of a name, with a byte-level tokenizer."""
    kind, settings = {**DECODERS, **ENCODER_DECODERS}[name]
    architecture = getattr(transformers, kind)
    if name == "t5":
        settings = {**settings, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    model = architecture(architecture.config_class(**{**_COMMON, **settings})).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3 if parameter.ndim > 1 else 1)
    model.save_pretrained(folder)
    save_chat_tokenizer(folder, None if name in ENCODER_DECODERS else template)


def save_chat_tokenizer(folder: Path, template: str | None) -> None:
    """Save a byte-level tokenizer that adds a token at the beginning."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(TEXTS * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=template
    )
    tokenizer.save_pretrained(folder)

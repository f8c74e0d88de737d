"""Small models with random weights, of as many classes of Transformers as can be made small by their settings alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

MOST_PARAMETERS = 3_000_000
VOCABULARY, LABELS, NEW_TOKENS = 120, 5, 6
TASKS = {
    "base": modeling_auto.MODEL_MAPPING_NAMES,
    "classify": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "tokens": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "image": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
_SIZES = {
    32: "hidden_size d_model n_embd dim embed_dim embedding_size d_embed projection_dim moe_intermediate_size width "
    "decoder_hidden_size kv_lora_rank q_lora_rank",
    64: "intermediate_size ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim n_inner hidden_dim ffn_hidden_size d_inner "
    "shared_expert_intermediate_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers "
    "num_decoder_layers num_key_value_heads num_experts_per_tok num_blocks",
    4: "num_attention_heads n_head n_heads encoder_attention_heads decoder_attention_heads num_heads num_experts "
    "num_local_experts n_routed_experts",
    8: "head_dim patch_size qk_nope_head_dim qk_rope_head_dim v_head_dim",
    16: "image_size state_size mamba_d_state",
    VOCABULARY: "vocab_size",
    LABELS: "num_labels",
}
_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "sep_token_id", "cls_token_id")


def names_of(task: str) -> Iterator[tuple[str, str]]:
    """Yield the model types and classes of a task, each class once."""
    seen = set()
    for model_type, name in TASKS[task].items():
        for one in name if isinstance(name, tuple | list) else [name]:
            if one not in seen and hasattr(transformers, one):
                seen.add(one)
                yield model_type, one


def make(name: str, folder: Path) -> Any:
    """Save a small model of a class, and return it.

    Raises:
        Exception: of any kind, where settings of this class do not make it small, or it cannot be built or saved.
    """
    architecture = getattr(transformers, name)
    settings = _shrunk(architecture.config_class)
    torch.manual_seed(0)
    with torch.device("meta"):
        num_parameters = sum(parameter.numel() for parameter in architecture(settings).parameters())
    if num_parameters > MOST_PARAMETERS:
        raise ValueError(f"{num_parameters:,} parameters")
    model = architecture(settings).eval()
    model.save_pretrained(folder)
    return architecture.from_pretrained(folder, dtype="auto").eval()


def _shrunk(config_class: Any) -> Any:
    default = config_class()
    sizes = {name: size for size, names in _SIZES.items() for name in names.split()}
    values: dict[str, Any] = {}
    for name, value in default.to_dict().items():
        if name in sizes and isinstance(value, int) and not isinstance(value, bool):
            values[name] = sizes[name]
        elif name in sizes and isinstance(value, list) and all(isinstance(item, int) for item in value):
            values[name] = [sizes[name]] * len(value)
        elif name in _SPECIAL and isinstance(value, int):
            values[name] = min(value, 3)
        elif name == "layer_types" and value:
            values[name] = value[:2]
    for name, inner in getattr(config_class, "sub_configs", {}).items():
        if isinstance(inner, type) and hasattr(inner, "model_type"):
            values[name] = _shrunk(inner).to_dict()
    return config_class(**values)

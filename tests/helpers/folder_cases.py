"""Folders of small models with random weights, and what Transformers itself gives for each row alone."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformer_folders import SMALL, SMALL_GPT

NUM_ROWS, NEW_TOKENS = 18, 8
WORDS = [f"w{index}" for index in range(90)]
LLAMA = {**SMALL, "vocab_size": 100, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 100}
RWKV = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "attention_hidden_size": 32}
GENERATION = {
    "two-ends": {"eos_token_id": [2, 48, 62, 94], "pad_token_id": 0},
    "penalty": {"repetition_penalty": 1.3, "pad_token_id": 0, "eos_token_id": 2},
    "ngrams": {"no_repeat_ngram_size": 2, "pad_token_id": 0, "eos_token_id": 2},
    "words": {
        "suppress_tokens": list(range(30, 60)), "bad_words_ids": [[5], [70, 71]], "forced_eos_token_id": 2,
        "eos_token_id": 2, "pad_token_id": 0,
    },
}  # fmt: skip
Row = Callable[[Any, torch.Tensor], Any]


@dataclass
class Cases:
    """Jobs by name, each with the rows that must come out of it, exactly or but for rounding."""

    folder: Path
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    expected: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, model: str, rows: list[Any], data: str = "tokens.parquet::tokens", **options: Any) -> None:
        self.jobs[name] = {"model": f"{self.folder / model}/", "data": str(self.folder / data), **options}
        self.expected[name] = [np.asarray(row) for row in rows]


def make_data(folder: Path) -> list[list[int]]:
    """Token lists, and the same as text, a word a token."""
    rng = np.random.default_rng(0)
    lengths = [5, 1, 9, 4, 5, 13, 2, 7, 7, 3, 11, 6, 8, 8, 3, 12, 12, 7]  # some alike in each chunk
    tokens = [rng.integers(10, 95, length).tolist() for length in lengths]
    pa.parquet.write_table(pa.table({"tokens": tokens}), folder / "tokens.parquet")
    (folder / "text.txt").write_text("".join(" ".join(WORDS[token - 10] for token in row) + "\n" for row in tokens))
    np.save(folder / "even.npy", rng.integers(10, 95, (NUM_ROWS, 5)))
    return tokens


def save(folder: Path, name: str, dtype: torch.dtype | None = None, scale: float = 4, **settings: Any) -> Any:
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)  # what padding or another token does then shows
    model.to(dtype or torch.float32).save_pretrained(folder)
    return model


def save_tokenizer(folder: Path) -> Any:
    """A word a token, `[CLS]` before them and `[SEP]` after."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"[{index}]" for index in range(5, 10))]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate([*special, *WORDS])}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def by_row(model: Any, tokens: list[list[int]], pick: Row) -> list[np.ndarray]:
    """What a model gives for each row alone."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows = [torch.tensor([row]) for row in tokens]
        found = [pick(model(input_ids=row, attention_mask=torch.ones_like(row)), row) for row in rows]
    return [tensor.float().numpy() for tensor in found]


def generated(model: Any, tokens: list[list[int]]) -> list[np.ndarray]:
    """The new tokens of each row alone, as the library's own settings have them, filled up."""
    found = []
    for row in tokens:
        ids = torch.tensor([row])
        new = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1,
            pad_token_id=0,
        )[0, len(row) :]  # fmt: skip
        found.append(torch.nn.functional.pad(new, (0, NEW_TOKENS - len(new))).numpy())
    return found


def make_generators(cases: Cases, tokens: list[list[int]]) -> None:
    """Causal models, one set of weights with several generation settings."""
    options = {"model_args": {"max_new_tokens": NEW_TOKENS}}
    save(cases.folder / "llama", "LlamaForCausalLM", **LLAMA)
    for name, settings in GENERATION.items():
        shutil.copytree(cases.folder / "llama", cases.folder / name)
        (cases.folder / name / "generation_config.json").write_text(json.dumps(settings))
        model = transformers.AutoModelForCausalLM.from_pretrained(cases.folder / name)
        cases.add(name, name, generated(model, tokens), **options)
    plain = transformers.AutoModelForCausalLM.from_pretrained(cases.folder / "llama")
    plain.generation_config.pad_token_id = 0
    rows = generated(plain, tokens)
    (cases.folder / "llama/generation_config.json").write_text(
        json.dumps({"do_sample": True, "num_beams": 3, "pad_token_id": 0, "eos_token_id": 2})
    )
    cases.add("sampling", "llama", rows, model_args={**options["model_args"], "do_sample": False})
    rwkv = save(cases.folder / "rwkv", "RwkvForCausalLM", **RWKV)
    rwkv.generation_config.pad_token_id = 0
    rwkv.save_pretrained(cases.folder / "rwkv")
    cases.add("rwkv", "rwkv", generated(rwkv, tokens), **options)


def make_encoders(cases: Cases, tokens: list[list[int]]) -> None:
    """Models whose hidden states are pooled, some of folders that name another class."""
    save(cases.folder / "esm", "EsmForMaskedLM", vocab_size=100, pad_token_id=0, mask_token_id=4, **SMALL)
    tokenizer = save_tokenizer(cases.folder / "esm")
    esm = transformers.EsmModel.from_pretrained(cases.folder / "esm", add_pooling_layer=False)
    around = [[1, *row, 2] for row in tokens]
    mean = by_row(esm, around, lambda out, ids: out.last_hidden_state[0, 1:-1].mean(dim=0))
    assert [tokenizer(text)["input_ids"] for text in (cases.folder / "text.txt").read_text().splitlines()] == around
    args = {"class": "AutoModel", "pooling": "mean_tokens"}
    cases.add("mean_tokens of text", "esm", mean, data="text.txt", model_args=args)
    pa.parquet.write_table(pa.table({"tokens": around}), cases.folder / "around.parquet")
    cases.add("mean_tokens", "esm", mean, data="around.parquet::tokens", model_args={**args, "class": "EsmModel"})
    highest = by_row(esm, tokens, lambda out, ids: out.last_hidden_state[0].amax(dim=0))
    cases.add("max", "esm", highest, model_args={"class": "AutoModel", "pooling": "max"})
    save(cases.folder / "t5", "T5ForConditionalGeneration", **T5)
    t5 = transformers.T5EncoderModel.from_pretrained(cases.folder / "t5")
    rows = by_row(t5, tokens, lambda out, ids: out.last_hidden_state[0].mean(dim=0))
    cases.add("t5 encoder", "t5", rows, model_args={"class": "T5EncoderModel"})
    for name, settings in (("ConvBertModel", {**SMALL, "embedding_size": 32}), ("FNetModel", {**SMALL})):
        model = save(cases.folder / name, name, vocab_size=100, **settings)
        rows = by_row(model, tokens, lambda out, ids: out.last_hidden_state[0].mean(dim=0))
        cases.add(name, name, rows)


def make_heads(cases: Cases, tokens: list[list[int]]) -> None:
    """Models with a head: of rows, of tokens, with two outputs."""
    masked = transformers.EsmForMaskedLM.from_pretrained(cases.folder / "esm")
    rows = by_row(masked, tokens, lambda out, ids: out.logits[0])
    cases.add("masked", "esm", rows, output="p.parquet")
    best = by_row(masked, tokens, lambda out, ids: out.logits[0].argmax(dim=1))
    cases.add("masked argmax", "esm", best, postprocess="argmax", output="p.parquet")
    bert = save(cases.folder / "labels", "BertForTokenClassification", vocab_size=100, num_labels=5, **SMALL)
    cases.add("labels", "labels", by_row(bert, tokens, lambda out, ids: out.logits[0]), output="p.parquet")
    even = np.load(cases.folder / "even.npy").tolist()
    rows = by_row(bert, even, lambda out, ids: out.logits[0])
    cases.add("labels of rows of one length", "labels", rows, data="even.npy")
    # its first token, by which it classifies, sees padding where a row has no more than two
    short = {"embedding_size": 32, "num_hidden_layers": 1, "conv_kernel_size": 5, "initializer_range": 0.3}
    mixing = save(
        cases.folder / "mixing", "ConvBertForSequenceClassification", scale=1, vocab_size=100, **{**SMALL, **short}
    )
    cases.add("mixing at the end of short rows", "mixing", by_row(mixing, tokens, lambda out, ids: out.logits[0]))
    asked = save(cases.folder / "answers", "BertForQuestionAnswering", vocab_size=100, **SMALL)
    for name in ("start_logits", "end_logits"):
        cases.expected[f"answers {name}"] = by_row(asked, tokens, lambda out, ids, name=name: out[name][0])
    cases.add("answers", "answers", [], output="p.parquet")
    unpadded = save(cases.folder / "gpt", "GPT2ForSequenceClassification", **SMALL_GPT, num_labels=3)
    assert unpadded.config.pad_token_id is None
    cases.add("classifier without padding", "gpt", by_row(unpadded, tokens, lambda out, ids: out.logits[0]))
    rows = by_row(unpadded, even, lambda out, ids: out.logits[0])
    cases.add("classifier of rows of one length", "gpt", rows, data="even.npy")
    padded = save(cases.folder / "padded", "LlamaForSequenceClassification", **LLAMA, pad_token_id=7, num_labels=3)
    cases.add("classifier that looks for padding", "padded", by_row(padded, tokens, lambda out, ids: out.logits[0]))


def make_sounds(cases: Cases) -> None:
    """Models of sounds, rows of unlike lengths, which convolutions shorten."""
    rng = np.random.default_rng(1)
    sounds = [rng.standard_normal(length, dtype=np.float32) for length in rng.integers(40, 90, NUM_ROWS)]
    pa.parquet.write_table(pa.table({"sound": sounds}), cases.folder / "waves.parquet")
    settings = {
        **SMALL, "vocab_size": 20, "conv_dim": (16, 16), "conv_stride": (2, 2), "conv_kernel": (4, 4),
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    model = save(cases.folder / "sounds", "Wav2Vec2ForCTC", **settings)
    with torch.inference_mode():
        rows = [model(torch.from_numpy(sound)[None]).logits[0].numpy() for sound in sounds]
        hidden = [model.wav2vec2(torch.from_numpy(sound)[None])[0][0].mean(dim=0).numpy() for sound in sounds]
    cases.add("sounds", "sounds", rows, data="waves.parquet::sound", output="p.parquet")
    options = {"data": "waves.parquet::sound", "model_args": {"class": "Wav2Vec2Model"}}
    cases.add("hidden states of sounds", "sounds", hidden, **options)


def adapt(model: Any, task: str) -> Any:
    """The model with an adapter of random weights, by PEFT itself."""
    import peft

    settings = peft.LoraConfig(init_lora_weights=False, task_type=task, target_modules=["query", "value"])
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it asks for what Transformers calls otherwise now
        return peft.get_peft_model(model, settings).eval()


def make_others(cases: Cases, tokens: list[list[int]]) -> None:
    """Adapters, weights that Transformers converts, and a dtype that the weights alone tell."""
    adapted = adapt(save(cases.folder / "both", "BertModel", vocab_size=100, **SMALL), "FEATURE_EXTRACTION")
    adapted.save_pretrained(cases.folder / "both")
    rows = by_row(adapted, tokens, lambda out, ids: out.last_hidden_state[0].mean(dim=0))
    cases.add("adapter beside its base", "both", rows)
    save(cases.folder / "base", "BertModel", vocab_size=100, **SMALL)
    bert = transformers.BertForSequenceClassification.from_pretrained(cases.folder / "base")
    adapted = adapt(bert, "SEQ_CLS")
    adapted.peft_config["default"].base_model_name_or_path = str(cases.folder / "base")
    adapted.save_pretrained(cases.folder / "adapter")
    cases.add("adapter alone", "adapter", by_row(adapted, tokens, lambda out, ids: out.logits[0]))
    nomic = save(cases.folder / "nomic", "NomicBertModel", vocab_size=100, **SMALL)
    rows = by_row(nomic, tokens, lambda out, ids: out.last_hidden_state[0].mean(dim=0))
    cases.add("converted", "nomic", rows)
    half = save(cases.folder / "half", "LlamaModel", dtype=torch.float16, **LLAMA)
    settings = json.loads((cases.folder / "half/config.json").read_text())
    (cases.folder / "half/config.json").write_text(json.dumps({k: v for k, v in settings.items() if "dtype" not in k}))
    cases.add("half", "half", by_row(half, tokens, lambda out, ids: out.last_hidden_state[0].mean(dim=0)))


def make_gguf(cases: Cases, tokens: list[list[int]]) -> None:
    """A Llama as llama.cpp has it, some of its weights with 8 bits."""
    import gguf

    (cases.folder / "gguf").mkdir()
    width, layers, inner, words = 32, 2, 64, ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(97))]
    writer = gguf.GGUFWriter(cases.folder / "gguf/m.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_token_list(words)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(words), width), "output_norm": (width,), "output": (len(words), width)}
    for layer in range(layers):
        square = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (width, width))
        norms = dict.fromkeys(("attn_norm", "ffn_norm"), (width,))
        linear = {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in (square | norms | linear).items()}
    for name, shape in shapes.items():
        values = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if "ffn_up" in name else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(cases.folder / "gguf", gguf_file="m.gguf")
    cases.add("gguf", "gguf", generated(model, tokens), model_args={"max_new_tokens": NEW_TOKENS})


def make_cases(folder: Path) -> Cases:
    """All of them, with their folders and data."""
    cases, tokens = Cases(folder), make_data(folder)
    for make in (make_generators, make_encoders, make_heads, make_others, make_gguf):
        make(cases, tokens)
    make_sounds(cases)
    return cases


def wrong_rows(cases: Cases, name: str, path: Path) -> str:
    """Which rows of a job's output are not what they must be, in words; empty where all are right."""
    table = pa.parquet.read_table(path).to_pydict() if path.suffix == ".parquet" else {"": np.load(path)}
    wrong = []
    for column, rows in table.items():
        expected = cases.expected[f"{name} {column}" if f"{name} {column}" in cases.expected else name]
        assert len(expected) == len(rows) == NUM_ROWS, (name, column, len(rows))
        for index, (row, right) in enumerate(zip(rows, expected, strict=True)):
            found = np.asarray(row)
            tolerance = 2e-2 if name == "half" else 1e-4
            if found.shape != right.shape or not np.allclose(found, right, atol=tolerance, rtol=tolerance):
                wrong.append(f"{column} {index}: {found.ravel()[:4]}, not {right.ravel()[:4]}")
    return f"{name}: {'; '.join(wrong)}" if wrong else ""

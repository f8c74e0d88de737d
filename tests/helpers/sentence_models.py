"""Small models that sentence-transformers has saved, and what the library itself gives for the texts of the tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers import sentence_transformer as st
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.util import quantize_embeddings

NUM_ROWS = 50
WORDS = [*(f"{word}{number}" for word in ("word", "Word") for number in range(12)), "query", "doc", ":", "big"]
OWN_MODULE = """from sentence_transformers.base.modules import Module


class Twice(Module):
    config_keys = ["by"]

    def __init__(self, by=2.0):
        super().__init__()
        self.by = by

    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * self.by
        return features

    def save(self, output_path, *args, **kwargs):
        self.save_config(output_path)
"""


def rows() -> tuple[list[str], list[str], list[str]]:
    """Texts of 1 to 39 words, others to make pairs of, and the prompt of each."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(2 * NUM_ROWS)]
    return texts[:NUM_ROWS], texts[NUM_ROWS:], [["query", "doc", "bare"][i] for i in rng.integers(0, 3, NUM_ROWS)]


class Saved:
    """The folders, one after another; each with the jobs that it is run by and what must come out.

    Attributes:
        jobs: options of each job, by name.
        expected: what the library gives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.jobs: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, Any] = {}
        self.texts, self.others, self.prompts = rows()
        self.pairs = list(zip(self.texts, self.others, strict=True))
        columns = {"text": self.texts, "other": self.others, "kind": self.prompts}
        pa.parquet.write_table(pa.table(columns), folder / "d.parquet", row_group_size=16)
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
        self.tokenizer = transformers.BertTokenizerFast(
            str(folder / "vocab.txt"), do_lower_case=False, model_max_length=64
        )

    def add(self, name: str, folder: str, expected: Any, *columns: str, **options: Any) -> None:
        """A job, and what must come out of it."""
        self.jobs[name] = {"model": f"{self._folder / folder}/", "columns": columns or ("text",), **options}
        self.expected[name] = expected

    def bert(self, name: str, **settings: Any) -> Path:
        """A folder of Transformers."""
        torch.manual_seed(len(self.jobs))
        architecture = getattr(transformers, name)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        vocabulary = {"vocab_size": len(self.tokenizer), "max_position_embeddings": 64}
        model = architecture(transformers.BertConfig(**sizes, **vocabulary, **settings)).eval()
        with torch.no_grad():  # far from what untrained ones give, which is nearly the same for all texts
            for parameter in model.parameters():
                parameter.mul_(3)
        path = self._folder / f"{name}-{len(self.jobs)}"
        model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        return path

    def save(self, folder: str, *modules: Any, **options: Any) -> SentenceTransformer:
        """A SentenceTransformer of a small BERT and these modules, as it is once it is loaded again."""
        inner = options.pop("inner", {})
        transformer = st.modules.Transformer(str(self.bert("BertModel")), **inner)
        SentenceTransformer(modules=[transformer, *modules], device="cpu", **options).save(
            str(self._folder / folder), create_model_card=False
        )
        return SentenceTransformer(str(self._folder / folder), device="cpu")


def embeddings(saved: Saved) -> None:
    """Modules of all kinds, one after another."""
    layers = st.modules
    modes = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    model = saved.save("pooling", layers.Pooling(32, modes))
    saved.add("pooling", "pooling", model.encode(saved.texts))
    saved.add("bfloat16", "pooling", model.to(torch.bfloat16).encode(saved.texts), dtype="bfloat16")

    dense = [layers.Dense(32, 48), layers.Dense(48, 24, activation_function=torch.nn.Identity())]
    model = saved.save("dense", layers.Pooling(32, "mean"), *dense, layers.LayerNorm(24), layers.Normalize())
    found = model.encode(saved.texts)
    saved.add("dense", "dense", found)
    for precision in ("binary", "ubinary"):
        quantized = model.encode(saved.texts, precision=precision)
        saved.add(precision, "dense", quantized, model_args={"precision": precision})
    calibration = found[:30] * 1.1  # its own extremes lie on the borders of levels
    np.save(saved._folder / "calibration.npy", calibration)
    for precision in ("int8", "uint8"):
        quantized = quantize_embeddings(found, precision, calibration_embeddings=calibration)
        options = {"precision": precision, "calibration": str(saved._folder / "calibration.npy")}
        saved.add(precision, "dense", quantized, model_args=options)
    model.max_seq_length = 9
    saved.add("max_length", "dense", model.encode(saved.texts), model_args={"max_length": 9})

    table = layers.StaticEmbedding(saved.tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[table], device="cpu").save(str(saved._folder / "static"), create_model_card=False)
    model = SentenceTransformer(str(saved._folder / "static"), device="cpu")
    saved.add("static", "static", model.encode(saved.texts))
    options = {"truncate_dim": 5, "normalize": True}
    found = model.encode(saved.texts, truncate_dim=5, normalize_embeddings=True)
    saved.add("truncated", "static", found, model_args=options)

    router = layers.Router.for_query_document(
        [layers.StaticEmbedding(saved.tokenizer, embedding_dim=32)],
        [layers.Transformer(str(saved.bert("BertModel"))), layers.Pooling(32, "mean")],
    )
    SentenceTransformer(modules=[router], device="cpu").save(str(saved._folder / "router"), create_model_card=False)
    model = SentenceTransformer(str(saved._folder / "router"), device="cpu")
    saved.add("router", "router", model.encode(saved.texts))
    saved.add("task", "router", model.encode(saved.texts, task="query"), model_args={"task": "query"})


def prompts(saved: Saved) -> None:
    """A default prompt that is not pooled, others by name, as text, and by a column of the data."""
    known = {"query": "query : ", "doc": "doc : word3 ", "bare": ""}
    pooling = st.modules.Pooling(32, "mean", include_prompt=False)
    model = saved.save("prompts", pooling, prompts=known, default_prompt_name="query", truncate_dim=20)
    saved.add("default prompt", "prompts", model.encode(saved.texts))
    saved.add("prompt_name", "prompts", model.encode(saved.texts, prompt_name="doc"), model_args={"prompt_name": "doc"})
    saved.add("prompt", "prompts", model.encode(saved.texts, prompt="word1 big "), model_args={"prompt": "word1 big "})
    each = {name: model.encode(saved.texts, prompt_name=name) for name in known}
    mixed = np.stack([each[name][row] for row, name in enumerate(saved.prompts)])
    saved.add("prompt_column", "prompts", mixed, "text", "kind", model_args={"prompt_column": "kind"})


def as_older_versions_save(saved: Saved) -> None:
    """Names of classes, and the file for the length, as in most folders that are published."""
    saved.save("older", st.modules.Pooling(32, "cls"), inner={"do_lower_case": True})
    folder = saved._folder / "older"
    (folder / "config_sentence_transformers.json").unlink()
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16, "do_lower_case": true}')
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(modules))
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 16
    saved.add("older", "older", model.encode(saved.texts))


def with_code(saved: Saved) -> None:
    """A module that is code in the folder."""
    saved.save("code", st.modules.Pooling(32, "mean"))
    folder = saved._folder / "code"
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Twice", "type": "own_module.Twice"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "own_module.py").write_text(OWN_MODULE)
    (folder / "2_Twice").mkdir()
    (folder / "2_Twice/config.json").write_text('{"by": 3.0}')
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    saved.add("code", "code", model.encode(saved.texts), trust_code=True)


def pairs_and_sparse(saved: Saved) -> None:
    """Scores of pairs, and embeddings that are mostly 0."""
    for name, labels in (("score", 1), ("scores", 3)):
        CrossEncoder(str(saved.bert("BertForSequenceClassification", num_labels=labels)), device="cpu").save(
            str(saved._folder / name), create_model_card=False
        )
        model = CrossEncoder(str(saved._folder / name), device="cpu")
        saved.add(name, name, model.predict(saved.pairs), "text", "other")
    path = saved.bert("BertForSequenceClassification", num_labels=1)
    config = json.loads((path / "config.json").read_text())
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    (path / "config.json").write_text(json.dumps(config))
    model = CrossEncoder(str(path), device="cpu")
    saved.add("older score", path.name, model.predict(saved.pairs), "text", "other")

    transformer = st.modules.Transformer(str(saved.bert("BertForMaskedLM")), transformer_task="fill-mask")
    sparse = SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu", max_active_dims=12)
    sparse.save(str(saved._folder / "sparse"), create_model_card=False)
    sparse = SparseEncoder(str(saved._folder / "sparse"), device="cpu")
    saved.add("sparse", "sparse", sparse.encode(saved.texts).to_dense().numpy())


MAKERS: tuple[Callable[[Saved], None], ...] = (embeddings, prompts, as_older_versions_save, with_code, pairs_and_sparse)

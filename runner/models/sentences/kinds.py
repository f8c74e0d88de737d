"""Outputs of each kind of sentence-transformers model for a batch, as from its `encode` or `predict`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from runner.core.errors import ModelError
from runner.data.tensors import RaggedTensor
from runner.models.sentences.model import Sentences


class Embeddings(Sentences):
    """A SentenceTransformer: embeddings `(batch, width)`, as `encode` returns them.

    Args:
        ranges: `(2, width)`, the smallest and largest value of each dimension, for `precision` int8 and uint8.
    """

    def __init__(self, model: Any, options: Mapping[str, Any], ranges: np.ndarray | None = None) -> None:
        super().__init__(model, options)
        self._truncate_dim = options.get("truncate_dim", model.truncate_dim)
        self._normalizes = bool(options.get("normalize"))
        self._precision = options.get("precision", "float32")
        self._ranges = ranges

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import truncate_embeddings

        embeddings: torch.Tensor = truncate_embeddings(output, self._truncate_dim)
        return nn.functional.normalize(embeddings, p=2, dim=1) if self._normalizes else embeddings

    def _finish(self, answers: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import quantize_embeddings

        if self._precision == "float32":
            return answers
        if self._ranges is not None and self._ranges.shape[1] != answers.shape[1]:
            raise ModelError(
                f"--model-args: calibration has {self._ranges.shape[1]} numbers per row, the model gives "
                f"{answers.shape[1]}"
            )
        return torch.from_numpy(quantize_embeddings(answers, self._precision, ranges=self._ranges))


class SparseEmbeddings(Sentences):
    """A SparseEncoder: the indices and values of each row's nonzero elements, as `encode` returns them."""

    def _keywords_of_call(self) -> dict[str, Any]:
        limit = self.model.max_active_dims
        return self._keywords if limit is None else {**self._keywords, "max_active_dims": limit}

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import select_max_active_dims

        output_of_largest: torch.Tensor = select_max_active_dims(output, self.model.max_active_dims)
        return output_of_largest.to_dense() if output_of_largest.is_sparse else output_of_largest

    def _finish(self, answers: torch.Tensor) -> dict[str, RaggedTensor]:
        sparse = answers.to_sparse().coalesce()
        rows, columns = sparse.indices()
        lengths = torch.bincount(rows, minlength=len(answers))
        return {
            "indices": RaggedTensor(columns.to(torch.int32), lengths),
            "values": RaggedTensor(sparse.values(), lengths),
        }


class PairScores(Sentences):
    """A CrossEncoder: scores `(batch,)`, or `(batch, labels)` where there are several, as `predict` returns them."""

    _num_columns = 2
    _output = "scores"

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        if output.is_floating_point() and torch.finfo(output.dtype).bits < 32:
            output = output.float()
        scores: torch.Tensor = self.model.activation_fn(output)
        return scores.squeeze(-1) if self.model.num_labels == 1 and scores.ndim > 1 else scores

"""Likelihoods of tokens under a causal language model."""

import torch


def log_likelihoods(logits: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Return the natural logarithm of the probability of the scored tokens, each given the tokens before it.

    Args:
        logits: logits of the model, `(batch, length, tokens)`.
        ids: the input ids, `(batch, length)`.
        scored: `(batch, length)`, true where a token counts; the first token of a row never does.

    Returns:
        Sums over each row, float32, `(batch,)`.
    """
    likely = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(2, ids[:, 1:, None])[..., 0]
    scores: torch.Tensor = torch.where(scored[:, 1:], likely, 0).sum(dim=1)
    return scores

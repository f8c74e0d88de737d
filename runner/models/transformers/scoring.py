"""How likely a causal language model holds tokens."""

import torch


def log_likelihoods(logits: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """The natural logarithm of the probability of the scored tokens, each after those before it.

    Args:
        logits: of the model, `(batch, length, tokens)`.
        ids: what it was asked for, `(batch, length)`.
        scored: `(batch, length)`, true where a token counts; the first one of a row never does.

    Returns:
        float32, `(batch,)`.
    """
    likely = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(2, ids[:, 1:, None])[..., 0]
    found: torch.Tensor = torch.where(scored[:, 1:], likely, 0).sum(dim=1)
    return found

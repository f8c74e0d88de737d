"""Sampling of tokens whose noise is a function of seed, row, sample and position alone.

So a sampled token depends on no other row, batch, rank or earlier job. The noise is that of Gumbel-max sampling: the
token with the largest sum of logit and noise has the probability that softmax gives it (Maddison, Tarlow and Minka,
"A* Sampling", 2014). Its numbers come from Philox, a counter-based generator (Salmon et al., "Parallel Random Numbers:
As Easy as 1, 2, 3", 2011), in NumPy, which promises to keep the stream of its raw bits.
"""

from typing import NamedTuple

import numpy as np
import torch

_FRACTION_BITS = 53
_WORD = 2**64


class Key(NamedTuple):
    """The key of the noise of one answer.

    Attributes:
        seed: of the job, or of a request.
        row: number of the row.
        sample: number of the answer among those of its row.
    """

    seed: int
    row: int
    sample: int = 0


def gumbel_noise(key: Key, position: int, tokens: np.ndarray) -> np.ndarray:
    """Return Gumbel noise for some tokens, float64, as many.

    Args:
        key: the answer that it is for.
        position: number of tokens in the answer so far.
        tokens: token ids, ascending, one at least.
    """
    bits = np.random.Philox(
        key=np.array([key.seed % _WORD, key.row], np.uint64), counter=[0, position, key.sample, 0]
    ).random_raw(int(tokens[-1]) + 1)[tokens]
    uniform = ((bits >> np.uint64(64 - _FRACTION_BITS)).astype(np.float64) + 0.5) * 2.0**-_FRACTION_BITS
    noise: np.ndarray = -np.log(-np.log(uniform))
    return noise


def sample(scores: torch.Tensor, key: Key, position: int) -> int:
    """Return a token drawn from the probabilities that softmax gives scores.

    Args:
        scores: processed logits `(vocabulary,)`; minus infinity where a token is excluded.
        key, position: see `gumbel_noise`.

    Raises:
        ValueError: no token has a finite score.
    """
    logits = scores.double().cpu().numpy()
    candidates = np.flatnonzero(np.isfinite(logits))
    if not len(candidates):
        raise ValueError("no token has a finite score: the logits are not finite, or the settings exclude every token")
    noise = gumbel_noise(key, position, candidates)
    return int(candidates[np.argmax(logits[candidates] + noise)])

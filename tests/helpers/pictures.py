"""Pictures of random pixels."""

import numpy as np

RNG = np.random.default_rng(0)


def pixels(height: int, width: int, channels: int = 3, dtype: str = "u1") -> np.ndarray:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)

"""A stack of linear layers, and its like from other libraries, as a user would hand them to the runner."""

from typing import IO, Any

import numpy as np
import torch
from torch import nn


def build(layers: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(64, 64), nn.ReLU())))


class OnDevice:
    """Any callable: made on a device, called with a batch."""

    def __init__(self, device: torch.device) -> None:
        self.model = build().eval().to(device)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self.model(rows)


def probabilities(weights: IO[bytes]) -> Any:
    """A classifier of scikit-learn, from a file that joblib has written."""
    import joblib

    return joblib.load(weights).predict_proba


def module_from_file(weights: IO[bytes], layers: int) -> nn.Module:
    """Weights in a format of the user's own: NumPy's."""
    model, arrays = build(layers), np.load(weights)
    model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return model

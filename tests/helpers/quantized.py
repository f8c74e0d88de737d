"""A module that its factory quantizes."""

import torch
from torch import nn


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.memory, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.memory(rows)
        return self.head(hidden[:, -1])


def in_8_bits() -> nn.Module:
    quantized: nn.Module = torch.ao.quantization.quantize_dynamic(Recurrent().eval(), dtype=torch.qint8)
    return quantized

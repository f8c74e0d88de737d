"""What is run: models and data from seeds, the same for every system. A user would have these in a module of theirs."""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SEED = 0
VOCABULARY = 10_000


class Marked(nn.Module):
    """A model that notes when its first batch began and its latest ended, and how many rows that were.

    The notes of a process go to the file PID in the folder $BENCH_MARKS, 24 bytes. Batches of rows all alike, by which
    systems try the model before they begin, do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.first, self.rows, self.file = 0.0, 0, -1

    def forward(self, rows: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        began = time.time()
        output = self.model(rows, *more)
        if self.first or not torch.equal(rows, rows[:1].expand_as(rows)):
            if self.file < 0:
                self.file = os.open(Path(os.environ["BENCH_MARKS"]) / str(os.getpid()), os.O_WRONLY | os.O_CREAT)
            self.first = self.first or began
            self.rows += len(output)
            os.pwrite(self.file, struct.pack("ddq", self.first, time.time(), self.rows), 0)
        return output


class Block(nn.Module):
    """Two 3x3 convolutions and a way past them (He et al., "Deep Residual Learning", 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.past = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.past = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.past(x))


def resnet18() -> nn.Module:
    """ResNet-18 for 1,000 classes."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    sizes += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    blocks = [Block(*size) for size in sizes]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes `(batch, 3, height, width)` to what the network was trained on."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / deviation


def tabular_model() -> nn.Module:
    """Overhead-bound: two small layers."""
    torch.manual_seed(SEED)
    return Marked(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())).eval()


def images_model() -> nn.Module:
    """Compute-bound."""
    torch.manual_seed(SEED)
    return Marked(resnet18()).eval()


class Encoder(nn.Module):
    """Four layers of a transformer over token lists; the mean of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.layers(self.embed(tokens), src_key_padding_mask=~mask)
        weights = mask[..., None].float()
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def sequences_model() -> nn.Module:
    """Ragged."""
    torch.manual_seed(SEED)
    return Marked(Encoder()).eval()


def pad(batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token lists as one tensor, filled up with 0, and a mask."""
    padded = nn.utils.rnn.pad_sequence(batch, batch_first=True)
    lengths = torch.tensor([len(row) for row in batch])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def tabular_data(num_rows: int) -> np.ndarray:
    """`(num_rows, 64)` float32."""
    return np.random.default_rng(SEED).standard_normal((num_rows, 64), dtype=np.float32)


def images_data(num_rows: int) -> np.ndarray:
    """`(num_rows, 3, 224, 224)` uint8."""
    return np.random.default_rng(SEED).integers(0, 256, (num_rows, 3, 224, 224), dtype=np.uint8)


def sequences_data(num_rows: int) -> list[np.ndarray]:
    """Token lists of 8 to 512, log-normal about 64."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(64), 0.9, num_rows), 8, 512).astype(int)
    return [rng.integers(0, VOCABULARY, length) for length in lengths]


@dataclass(frozen=True)
class Workload:
    """One job.

    Attributes:
        num_rows: of the data set in full size.
        batch_size: rows a forward call.
        model: makes the model.
        data: makes the rows.
        preprocess: from a batch of rows (of ragged ones, a list) to the model's input, or None.
        is_ragged: rows are of unlike lengths, in a Parquet file; else in a .npy file.
    """

    num_rows: int
    batch_size: int
    model: Callable[[], nn.Module]
    data: Callable[[int], Any]
    preprocess: Callable[[Any], Any] | None = None
    is_ragged: bool = False

    def write(self, num_rows: int, stem: Path) -> Path:
        """Write the data set; returns its path."""
        if not self.is_ragged:
            np.save(stem.with_suffix(".npy"), self.data(num_rows))
            return stem.with_suffix(".npy")
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"tokens": self.data(num_rows)}), stem.with_suffix(".parquet"), row_group_size=512)
        return stem.with_suffix(".parquet")

    def open(self, path: str) -> Any:
        """The rows, to be taken by slices: an array that is not read yet, or a list of arrays."""
        if not self.is_ragged:
            return np.load(path, mmap_mode="r")
        from pyarrow import parquet

        return [np.array(row.values) for row in parquet.read_table(path).column(0)]


WORKLOADS = {
    "tabular": Workload(2_000_000, 8192, tabular_model, tabular_data),
    "images": Workload(4_000, 32, images_model, images_data, normalize),
    "sequences": Workload(5_000, 32, sequences_model, sequences_data, pad, True),
}


def prepare_rows(workload: Workload, rows: Any) -> Any:
    """The model's input for a slice of what `open` gives, or for a list of its rows."""
    if workload.is_ragged:
        batch: Any = [torch.from_numpy(row) for row in rows]
    else:
        batch = torch.from_numpy(np.stack(rows) if isinstance(rows, list) else np.array(rows))
    with torch.inference_mode():
        return workload.preprocess(batch) if workload.preprocess else batch


def predict_prepared(model: nn.Module, inputs: Any) -> torch.Tensor:
    """The predictions for a prepared batch."""
    with torch.inference_mode():
        return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def predict_rows(workload: Workload, model: nn.Module, rows: Any) -> np.ndarray:
    """One batch through it all, as every hand-written system does it."""
    return predict_prepared(model, prepare_rows(workload, rows)).numpy()

"""Lightning's Trainer.predict on two processes, and a writer that puts each rank's batches where they belong.

With a last word "best" the data set gives whole batches.
"""

import sys
import warnings
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset
from workloads import WORKLOADS, predict_prepared, prepare_rows

warnings.filterwarnings("ignore")
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]


class Rows(Dataset):
    def __init__(self) -> None:
        self.rows = workload.open(data)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        return index, np.array(self.rows[index])


class Batches(Rows):
    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        if indices[-1] - indices[0] + 1 == len(indices):
            return [(indices, self.rows[indices[0] : indices[-1] + 1])]
        return [(indices, [self.rows[i] for i in indices] if workload.is_ragged else self.rows[indices])]


def collate(items: list[tuple[Any, Any]]) -> tuple[list[int], Any]:
    indices, rows = items[0] if isinstance(items[0][0], list) else map(list, zip(*items, strict=True))
    return indices, prepare_rows(workload, rows)


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.model = workload.model()

    def predict_step(self, batch: tuple[list[int], Any], index: int) -> tuple[list[int], np.ndarray]:
        indices, inputs = batch
        return indices, predict_prepared(self.model, inputs).numpy()


class Writer(BasePredictionWriter):
    def __init__(self) -> None:
        super().__init__("batch")
        self.file: np.ndarray | None = None

    def write_on_batch_end(self, trainer, module, prediction, batch_indices, batch, batch_index, loader_index) -> None:
        indices, rows = prediction
        if self.file is None:
            if trainer.is_global_zero:
                shape = (len(dataset), *rows.shape[1:])
                np.lib.format.open_memmap(output, "w+", rows.dtype, shape)
            trainer.strategy.barrier()
            self.file = np.load(output, mmap_mode="r+")
        self.file[indices] = rows


dataset = Batches() if "best" in sys.argv else Rows()
trainer = lightning.Trainer(
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[Writer()],
)
trainer.predict(Module(), DataLoader(dataset, workload.batch_size, collate_fn=collate), return_predictions=False)
trainer.strategy.barrier()  # the launched process ends with this one, done or not

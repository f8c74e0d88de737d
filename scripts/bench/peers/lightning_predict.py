"""Lightning's Trainer.predict on two processes; a writer that puts each rank's batches where they belong, its best."""

import sys
import warnings

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset
from workloads import WORKLOADS, predict_rows

warnings.filterwarnings("ignore")
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]


class Rows(Dataset):
    def __init__(self) -> None:
        self.rows = np.load(data, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(indices), torch.from_numpy(np.array(self.rows[indices]))


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.model = workload.model()

    def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> tuple[np.ndarray, np.ndarray]:
        indices, rows = batch
        return indices.numpy(), predict_rows(workload, self.model, rows.numpy())


class Writer(BasePredictionWriter):
    def __init__(self) -> None:
        super().__init__("batch")
        self.file: np.ndarray | None = None

    def write_on_batch_end(self, trainer, module, prediction, batch_indices, batch, batch_index, loader_index) -> None:
        indices, rows = prediction
        if self.file is None:
            if trainer.is_global_zero:
                shape = (len(np.load(data, mmap_mode="r")), *rows.shape[1:])
                np.lib.format.open_memmap(output, "w+", rows.dtype, shape)
            trainer.strategy.barrier()
            self.file = np.load(output, mmap_mode="r+")
        self.file[indices] = rows


trainer = lightning.Trainer(
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[Writer()],
)
loader = DataLoader(Rows(), workload.batch_size, collate_fn=lambda batch: batch)
trainer.predict(Module(), loader, return_predictions=False)

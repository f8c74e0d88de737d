"""Accelerate as its documentation has it: a data set of rows, a prepared loader, gather_for_metrics.

With a last word "best" the data set gives whole batches. `accelerate launch --cpu --num_processes 2` runs one process,
silently: so torchrun starts it.
"""

import sys
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from workloads import WORKLOADS, predict_prepared, prepare_rows

torch.set_num_threads(1)
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]


class Rows(Dataset):
    def __init__(self) -> None:
        self.rows = workload.open(data)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.rows[index])


class Batches(Rows):
    def __getitems__(self, indices: list[int]) -> Any:
        if indices[-1] - indices[0] + 1 == len(indices):
            return self.rows[indices[0] : indices[-1] + 1]
        return [self.rows[i] for i in indices]  # the last batch, made even with rows from the beginning


accelerator = Accelerator(cpu=True)
dataset = Batches() if "best" in sys.argv else Rows()
loader = DataLoader(dataset, workload.batch_size, collate_fn=lambda rows: prepare_rows(workload, rows))
model, loader = accelerator.prepare(workload.model(), loader)
model = accelerator.unwrap_model(model)
parts = []
for inputs in loader:
    parts.append(accelerator.gather_for_metrics(predict_prepared(model, inputs).clone()))
if accelerator.is_main_process:
    np.save(output, torch.cat(parts).numpy())
accelerator.end_training()

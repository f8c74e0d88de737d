"""Accelerate as its documentation has it: prepared loader, gather_for_metrics; at its best, with __getitems__.

`accelerate launch --cpu --num_processes 2` runs one process, silently: so torchrun starts it.
"""

import sys

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from workloads import WORKLOADS, predict_rows

torch.set_num_threads(1)
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]


class Rows(Dataset):
    def __init__(self) -> None:
        self.rows = np.load(data, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> np.ndarray:
        if indices[-1] - indices[0] + 1 == len(indices):
            return np.array(self.rows[indices[0] : indices[-1] + 1])
        return self.rows[indices]  # the last batch, made even with rows from the beginning


accelerator = Accelerator(cpu=True)
loader = DataLoader(Rows(), workload.batch_size, collate_fn=torch.from_numpy)
model, loader = accelerator.prepare(workload.model(), loader)
model = accelerator.unwrap_model(model)
parts = []
for batch in loader:
    predictions = torch.from_numpy(predict_rows(workload, model, batch.numpy()))
    parts.append(accelerator.gather_for_metrics(predictions))
if accelerator.is_main_process:
    np.save(output, torch.cat(parts).numpy())
accelerator.end_training()

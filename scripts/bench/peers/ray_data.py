"""Ray Data: two actors, order preserved, blocks of whole batches; the driver writes what comes.

Actors of one CPU each starve the readers where there are as many as CPUs: so Ray is told of one more.
"""

import logging
import sys

import numpy as np
import ray
from workloads import WORKLOADS, predict_rows

workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]
ray.init(num_cpus=3, logging_level=logging.ERROR, include_dashboard=False)
context = ray.data.DataContext.get_current()
context.execution_options.preserve_order = True
context.enable_progress_bars = False


class Predict:
    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.model = workload.model()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"predictions": predict_rows(workload, self.model, batch["data"])}


def read(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = np.load(data, mmap_mode="r")
    first = int(batch["id"][0])
    return {"data": np.array(rows[first : first + len(batch["id"])])}


num_rows, size, predictions, position = len(workload.open(data)), workload.batch_size, None, 0
blocks = max(2, num_rows // (8 * size))
if workload.is_ragged:
    rows = ray.data.read_parquet(data, override_num_blocks=blocks).rename_columns({"tokens": "data"})
else:
    rows = ray.data.range(num_rows, override_num_blocks=blocks).map_batches(read, batch_size=size)
rows = rows.map_batches(Predict, batch_size=size, concurrency=2)
for batch in rows.iter_batches(batch_size=None):
    found = batch["predictions"]
    if predictions is None:
        predictions = np.lib.format.open_memmap(output, "w+", found.dtype, (num_rows, *found.shape[1:]))
    predictions[position : position + len(found)] = found
    position += len(found)

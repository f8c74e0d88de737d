"""torchrun, a slice for each rank, and torch.distributed.gather of the predictions to rank 0, which saves them."""

import sys

import numpy as np
import torch
import torch.distributed as dist
from workloads import WORKLOADS, predict_rows

torch.set_num_threads(1)
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
rows = workload.open(data)
model = workload.model()
share = -(-len(rows) // size)  # gather wants the same from each
first, last = min(len(rows), share * rank), min(len(rows), share * (rank + 1))
parts = []
for start in range(first, last, workload.batch_size):
    parts.append(predict_rows(workload, model, rows[start : min(start + workload.batch_size, last)]))
mine = torch.from_numpy(np.concatenate(parts))
mine = torch.cat([mine, mine.new_zeros(share - len(mine), *mine.shape[1:])])
gathered = [torch.empty_like(mine) for _ in range(size)] if rank == 0 else None
dist.gather(mine, gathered)
if gathered is not None:
    np.save(output, torch.cat(gathered)[: len(rows)].numpy())
dist.destroy_process_group()

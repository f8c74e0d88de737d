"""mpi4py and numpy.memmap: every rank writes its slice of the output.

With a last word "sorted" rows are put in order by length first, and ranks take the batches in turn: what an expert
would write for rows of unlike lengths.
"""

import sys

import numpy as np
import torch
from mpi4py import MPI
from workloads import WORKLOADS, predict_rows

torch.set_num_threads(1)
workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]
comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
rows = workload.open(data)
model = workload.model()
first, last = len(rows) * rank // size, len(rows) * (rank + 1) // size
one = predict_rows(workload, model, rows[:1])
if rank == 0:
    np.lib.format.open_memmap(output, "w+", one.dtype, (len(rows), *one.shape[1:]))
comm.Barrier()
predictions = np.load(output, mmap_mode="r+")
if "sorted" in sys.argv:
    order = np.argsort([len(row) for row in rows])
    for start in range(rank * workload.batch_size, len(rows), size * workload.batch_size):
        indices = order[start : start + workload.batch_size]
        predictions[indices] = predict_rows(workload, model, [rows[index] for index in indices])
else:
    for start in range(first, last, workload.batch_size):
        stop = min(start + workload.batch_size, last)
        predictions[start:stop] = predict_rows(workload, model, rows[start:stop])
comm.Barrier()

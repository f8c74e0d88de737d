"""One process, one loop."""

import sys

import numpy as np
from workloads import WORKLOADS, predict_rows

workload, data, output = WORKLOADS[sys.argv[1]], sys.argv[2], sys.argv[3]
rows = workload.open(data)
model, predictions = workload.model(), None
for start in range(0, len(rows), workload.batch_size):
    batch = predict_rows(workload, model, rows[start : start + workload.batch_size])
    if predictions is None:
        predictions = np.lib.format.open_memmap(output, "w+", batch.dtype, (len(rows), *batch.shape[1:]))
    predictions[start : start + len(batch)] = batch

"""SentenceTransformer.encode over a pool of two processes: `sentence_pool.py MODEL TEXTS.parquet OUTPUT.npy`.

Prints the seconds from the call of `encode` to its end, when the pool's processes have their models.
"""

import sys
import time

import numpy as np
import pyarrow.parquet
from sentence_transformers import SentenceTransformer

if __name__ == "__main__":
    path, texts, output = sys.argv[1:]
    rows = pyarrow.parquet.read_table(texts)["text"].to_pylist()
    model = SentenceTransformer(path, device="cpu")
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    model.encode(rows[:2], pool=pool, chunk_size=1)  # starting the processes is no part of the loop
    began = time.monotonic()
    embeddings = model.encode(rows, pool=pool)
    print(time.monotonic() - began)
    np.save(output, embeddings)
    model.stop_multi_process_pool(pool)

"""Memory of ranks that load one model: `memory_of_model.py MIB OPTIONS_JSON`. Rank 0 prints a JSON line.

`peak` is the most anonymous and mapped memory of each rank (VmHWM) and `pss` its proportional share at the end, above
what it had before; both in multiples of the model's bytes.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from runner.comm import connect
from runner.config.options import make_config
from runner.host.devices import return_freed_memory
from runner.host.launch import detect_launch
from runner.models import build_model

_WIDTH = 2048  # 16 MiB a layer


def stack(num_layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(num_layers)))


def value(file: str, name: str) -> int:
    """Bytes, from a file of /proc/self."""
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    size = int(sys.argv[1]) << 20
    comm = connect(detect_launch(), options.get("comm", "mpi"), "allgather", "cpu")
    torch.set_num_threads(1)
    config = make_config(
        {"model": stack, "model_args": {"num_layers": size // (_WIDTH**2 * 4)}, "data": [0.0]} | options
    )
    stack(1)(torch.ones(1, _WIDTH))  # what the first use of PyTorch takes
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    before = {"peak": value("status", "VmRSS"), "pss": value("smaps_rollup", "Pss:")}
    return_freed_memory()
    began = time.perf_counter()
    model, digest = build_model(config, comm, torch.device("cpu"))
    seconds = time.perf_counter() - began
    rows = torch.rand(64, _WIDTH, generator=torch.Generator().manual_seed(0))
    comm.bcast(None)
    with torch.inference_mode():
        model(rows)
        began = time.perf_counter()
        output = model(rows)
        forward = time.perf_counter() - began
    comm.bcast(None)
    after = {"peak": value("status", "VmHWM"), "pss": value("smaps_rollup", "Pss:")}
    found = comm.gather_all({name: round((after[name] - before[name]) / size, 3) for name in after})
    outputs = comm.gather_all(output.sum().item())
    digests = comm.gather_all(digest)
    if comm.world.rank == 0:
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "forward": forward,
                    "digests": sorted(set(digests)),
                    "sums": sorted(set(outputs)),
                    **{name: [rank[name] for rank in found] for name in after},
                }
            )
        )
    comm.close()

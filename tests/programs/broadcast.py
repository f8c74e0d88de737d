"""Models that are hard to send, on real ranks: `broadcast.py COMM`. Prints bytes and seconds."""

import sys
import time

import torch
from torch import nn

from runner.comm import connect
from runner.config.options import make_config
from runner.host.launch import detect_launch
from runner.models import build_model
from runner.models.weights.storages import storages


class Huge(nn.Module):
    """One tensor of 3 GiB: past what 31 bits can count, and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3 << 28, dtype=torch.float32))
        with torch.no_grad():  # what was sent must be told from what was there
            self.weight[:: 1 << 20] = torch.rand(3 << 8)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.weight[-(1 << 20)]


class Tiny(nn.Module):
    """20,000 tensors of a few bytes, and some that are no different but for their size: none and 0-dim."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16)
        for index in range(20_000):
            shape = ((), (0,), (3,), (2, 2))[index % 4]
            self.register_buffer(f"b{index}", (torch.rand(shape) * 100).to(kinds[index % 5]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.b2


if __name__ == "__main__":
    comm = connect(detect_launch(), sys.argv[1], "allgather", "cpu")
    torch.manual_seed(comm.world.rank)  # another model on each rank, until it is sent
    for kind in (Huge, Tiny):
        began = time.perf_counter()
        model, digest = build_model(make_config({"model": kind, "data": [0.0]}), comm, torch.device("cpu"))
        total = sum(len(raw) for _, raw in storages(model))
        seconds = time.perf_counter() - began
        assert len(set(comm.gather_all(digest))) == 1
        outputs = comm.gather_all(model(torch.zeros(3)).tolist())
        assert all(output == outputs[0] for output in outputs), outputs
        assert any(outputs[0])
        if comm.world.rank == 0:
            print(f"{kind.__name__}: {len(storages(model))} storages of {total} bytes in {seconds:.2f} s", flush=True)
        del model
    comm.close()

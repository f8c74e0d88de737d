"""What --dtype, --channels-last and --compile change: `adapt.py [--workloads NAME ...] [--repeats 5]`.

One rank, one thread, forward calls alone, on the benchmark's models and data; in turn with the model as it is. Prints a
Markdown table: by how much they are faster, how far the predictions are from those of the model as it is (the norm of
the difference by the norm), and the seconds until the first batch is done.
"""

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from workloads import WORKLOADS, Workload

from runner.config.options import Config
from runner.data.tensors import map_tensors
from runner.models.weights.adapt import convert, finish

OPTIONS: dict[str, dict[str, Any]] = {
    "--dtype bfloat16": {"dtype": "bfloat16"},
    "--channels-last": {"channels_last": True},
    "--compile": {"compile": True},
    "--compile --channels-last": {"compile": True, "channels_last": True},
}


class Adapted:
    """The model with some options, and its batch."""

    def __init__(self, workload: Workload, inputs: Any, options: dict[str, Any]) -> None:
        config = Config(model="any:model", data="any.npy", **options)
        model = convert(copy.deepcopy(workload.model().model), config)
        self.inputs = map_tensors(inputs, lambda tensor: self._like_the_model(tensor, config))
        began = time.perf_counter()
        self.model = finish(model, config)
        self.output = self.call().float()
        self.first_seconds = time.perf_counter() - began
        self.seconds: list[float] = []

    def call(self) -> torch.Tensor:
        with torch.inference_mode():
            output: torch.Tensor = (
                self.model(*self.inputs) if isinstance(self.inputs, tuple) else self.model(self.inputs)
            )
        return output

    def time(self) -> None:
        began = time.perf_counter()
        self.call()
        self.seconds.append(time.perf_counter() - began)

    def _like_the_model(self, tensor: torch.Tensor, config: Config) -> torch.Tensor:
        if config.dtype and tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, config.dtype))
        if config.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor


def main() -> None:
    """Time them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | options | times as fast | error | first batch, s |\n| --- | --- | --- | --- | --- |")
    for name in arguments.workloads:
        workload = WORKLOADS[name]
        rows = workload.data(workload.batch_size)
        batch = [torch.from_numpy(row) for row in rows] if workload.is_ragged else torch.from_numpy(rows)
        inputs = workload.preprocess(batch) if workload.preprocess else batch
        plain = Adapted(workload, inputs, {})
        for words, options in OPTIONS.items():
            if options.get("channels_last") and name != "images":
                continue
            plain.seconds.clear()
            adapted = Adapted(workload, inputs, options)
            for _ in range(arguments.repeats):
                plain.time()
                adapted.time()
            ratio = statistics.median(plain.seconds) / statistics.median(adapted.seconds)
            error = float((adapted.output - plain.output).norm() / plain.output.norm())
            print(f"| {name} | `{words}` | {ratio:.2f} | {error:.1g} | {adapted.first_seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""Every way of `held.py` to hold tensors: `ways.py ROWS.npy OUTPUT_FOLDER`; rank 0 compares with its own model."""

import sys
from pathlib import Path
from typing import Any

import held
import numpy as np
import torch

import runner
from runner.host.launch import detect_launch

if __name__ == "__main__":
    rows, folder = sys.argv[1], Path(sys.argv[2])
    made: list[Any] = []

    def keeping(factory: Any) -> Any:
        """The factory, of whose models the last is kept."""

        def build() -> Any:
            made.append(factory())
            return made[-1]

        return build

    for way in held.WAYS:
        output = folder / f"{way.__name__}.npy"
        report = runner.predict(model=keeping(way), data=rows, output=output, batch_size=4, chunk_size=4, threads=1)
        assert report.canary in ("", "equal"), (way, report.canary)
        if detect_launch().rank == 0:
            with torch.inference_mode():
                expected = torch.cat([made[-1](batch) for batch in torch.from_numpy(np.load(rows)).split(4)])
            assert np.load(output).tobytes() == expected.numpy().tobytes(), way

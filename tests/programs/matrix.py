"""One job of many predictions, run under each launcher: `matrix.py DATA_FOLDER OUTPUT_FOLDER [NAME=VALUE ...]`.

A line of CASES is a name, the number of rows, their shape, the batch size and further options; those of the command
line are for all.
"""

import sys
from pathlib import Path
from typing import Any

import runner

ROWS = (0, 1, 7, 97, 1797, 100_003)
BATCH_SIZES = (1, 32, 1000)
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int8", "bool")

CASES: dict[str, tuple[int, tuple[int, ...], int, dict[str, Any]]] = {
    **{
        f"mlp-{n}-{b}": (n, (8,), b, {"model": "zoo:mlp"})
        for n in ROWS
        for b in BATCH_SIZES
        if n in (97, 1797) or b == (32 if n < 100_003 else 1000)
    },
    **{f"vector-{dtype}": (1797, (8,), 32, {"model": "zoo:Cast", "model_args": {"dtype": dtype}}) for dtype in DTYPES},
    **{
        f"score-{dtype}": (97, (8,), 32, {"model": "zoo:Cast", "model_args": {"dtype": dtype, "score": True}})
        for dtype in ("float32", "bfloat16", "int64", "bool")
    },
    "images": (97, (3, 6, 5), 32, {"model": "zoo:Pixels"}),
    "no-images": (0, (3, 6, 5), 32, {"model": "zoo:Pixels"}),
    "chunks-of-3-batches": (1797, (8,), 32, {"model": "zoo:mlp", "chunk_size": 96}),
    "one-chunk": (1797, (8,), 32, {"model": "zoo:mlp", "chunk_size": 3200}),
    "argmax": (1797, (8,), 32, {"model": "zoo:mlp", "postprocess": "argmax"}),
    "softmax": (1797, (8,), 32, {"model": "zoo:mlp", "postprocess": "softmax"}),
    "topk": (1797, (8,), 32, {"model": "zoo:mlp", "postprocess": "topk:3"}),
    "functions": (
        1797,
        (8,),
        32,
        {"model": "zoo:mlp", "preprocess": "zoo:halve", "postprocess": "zoo:first_column"},
    ),
}


def data_name(num_rows: int, row_shape: tuple[int, ...]) -> str:
    return f"{num_rows}-{'x'.join(map(str, row_shape))}.npy"


if __name__ == "__main__":
    data, outputs = Path(sys.argv[1]), Path(sys.argv[2])
    for name, (num_rows, row_shape, batch_size, options) in CASES.items():
        runner.predict(
            data=data / data_name(num_rows, row_shape),
            output=outputs / f"{name}.npy",
            batch_size=batch_size,
            threads=1,
            **options,
            **dict(word.split("=") for word in sys.argv[3:]),
        )

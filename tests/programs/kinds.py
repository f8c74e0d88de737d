"""The same rows through a model in every kind of file: `kinds.py FOLDER OUTPUT_FOLDER`, each with its options."""

import json
import sys
from pathlib import Path

import runner

if __name__ == "__main__":
    folder, outputs = Path(sys.argv[1]), Path(sys.argv[2])
    for name, options in json.loads((folder / "kinds.json").read_text()).items():
        runner.predict(
            data=folder / "rows.npy", output=outputs / f"{name}.npy", **{"batch_size": 32, "threads": 1, **options}
        )

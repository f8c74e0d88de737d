"""Run models of many architectures of timm against timm, on one rank and on two: `timm_architectures.py --ranks 1 2`.

The models have random weights and lie in folders, as timm saves them. Predictions for uint8 images must be timm's to
the byte; what differs is printed with the largest difference, and the exit code is then 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

NUM_ROWS, BATCH_SIZE = 10, 4
TIMM = [
    "efficientvit_b0",
    "ghostnet_050",
    "lcnet_035",
    "mobilenetv3_small_050",
    "regnetx_002",
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_evos",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_mambaout",
    "test_maxvit",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit2",
    "test_vit3",
    "test_vit4",
    "test_vit_relpos",
    "tinynet_e",
]


def make_models(folder: Path) -> dict[str, np.ndarray]:
    """Save models, and images as rows, and return what timm predicts by the name of the model's folder."""
    import timm
    from PIL import Image
    from timm.models import save_for_hf

    pixels = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 3, 150, 200), dtype=np.uint8)
    np.save(folder / "rows.npy", pixels)
    images = [Image.fromarray(image) for image in pixels.transpose(0, 2, 3, 1)]
    expected = {}
    for name in TIMM:
        torch.manual_seed(0)
        save_for_hf(timm.create_model(name, num_classes=7), folder / name, safe_serialization=True)
        model = timm.create_model(f"local-dir:{folder / name}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        expected[name] = by_batch(model, torch.stack([transform(image) for image in images]))
    return expected


def by_batch(model: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> np.ndarray:
    """What a model predicts in the batches of a job."""
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in inputs.split(BATCH_SIZE)]).numpy()


def compare(folder: Path, expected: Mapping[str, np.ndarray], num_ranks: int) -> list[str]:
    """Run all models on so many ranks, one after another, and return the names of those that differ."""
    command = [sys.executable, __file__, "--jobs", str(folder), *expected]
    if num_ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(num_ranks), *command]
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    environment = {**os.environ, **as_root, "OMP_NUM_THREADS": "1", "RUNNER_OUTPUTS": str(num_ranks)}
    subprocess.run(command, env=environment, cwd=folder, check=False, stdout=subprocess.DEVNULL)
    differing = []
    for name, wanted in expected.items():
        path = folder / f"{name}-{num_ranks}.npy"
        found = np.load(path) if path.exists() else None
        if found is not None and found.tobytes() == wanted.tobytes():
            says = "equal"
        else:
            differing.append(name)
            says = "failed" if found is None else f"differs by {np.abs(found - wanted).max():.2g}"
        print(f"{name:24} {num_ranks} rank{'s' * (num_ranks > 1)}: {says}", flush=True)
    return differing


def run_jobs(folder: Path, names: list[str]) -> None:
    """Be one rank of a job for each model."""
    import runner

    for name in names:
        try:
            output = folder / f"{name}-{os.environ['RUNNER_OUTPUTS']}.npy"
            data = folder / "rows.npy"
            runner.predict(model=f"{folder / name}/", data=data, output=output, batch_size=BATCH_SIZE, threads=1)
        except runner.RunnerError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--jobs", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.jobs:
        run_jobs(Path(options.jobs[0]), options.jobs[1:])
        return 0
    torch.set_num_threads(1)
    differing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        expected = make_models(Path(folder))
        for num_ranks in options.ranks:
            differing += compare(Path(folder), expected, num_ranks)
    print(json.dumps({"differing": differing}))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

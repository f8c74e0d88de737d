"""The demo's model and data: a small CNN on scikit-learn's handwritten digits (UCI, 1,797 real images of 8 x 8).

`demo_digits.py prepare FOLDER` trains it on one part of the images and saves the weights and the other part;
`demo_digits.py score FOLDER` compares the runner's predictions for that other part with the labels.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

TRAIN_ROWS, EPOCHS = 1000, 20


def cnn() -> nn.Module:
    """What `--model` names: images `(batch, 1, 8, 8)` float32 to logits `(batch, 10)`."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def prepare(folder: Path) -> None:
    """Write `images.npy`, `labels.npy` and `weights.safetensors`."""
    from safetensors.torch import save_model
    from sklearn.datasets import load_digits

    folder.mkdir(exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = (digits.images[order, None] / 16).astype(np.float32), digits.target[order]
    np.save(folder / "images.npy", images[TRAIN_ROWS:])
    np.save(folder / "labels.npy", labels[TRAIN_ROWS:])

    torch.manual_seed(0)
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    inputs, targets = torch.from_numpy(images[:TRAIN_ROWS]), torch.from_numpy(labels[:TRAIN_ROWS])
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN_ROWS).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    save_model(model, str(folder / "weights.safetensors"))
    seconds = time.perf_counter() - began
    print(f"trained a small CNN on {TRAIN_ROWS} images in {seconds:.1f} s; {len(images) - TRAIN_ROWS} are held out")


def score(folder: Path) -> None:
    """Print the accuracy; exit 1 where it is not what this model reaches."""
    predictions, labels = np.load(folder / "predictions.npy"), np.load(folder / "labels.npy")
    accuracy = float((predictions == labels).mean())
    print(f"accuracy: {accuracy:.3f} on {len(labels)} held-out images")
    if accuracy < 0.95:
        sys.exit("demo: the accuracy is below 0.95: something is wrong")


if __name__ == "__main__":
    {"prepare": prepare, "score": score}[sys.argv[1]](Path(sys.argv[2]))

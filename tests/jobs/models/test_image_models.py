"""Images through folders of Transformers and timm: each prepared as the folder says, against the library itself."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from launch import PROGRAMS, Outcome, mpirun, predict_here, python, run
from picture_models import BATCH_SIZE, DATA, NUM_ROWS, Models
from PIL import Image
from torch import nn

from runner.sources.media import decode


class Prepared(nn.Module):
    """What reaches a model, and how it is called."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.flatten(1)


def sizes(files: list[torch.Tensor]) -> torch.Tensor:
    """The width and height of image files."""
    return torch.tensor([size_of(file.numpy().tobytes()) for file in files])


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def predict(models: Models, name: str, *options: str, data: str = "", output: str = "p.npy") -> Outcome:
    command = ["--model", f"./{name}", "--data", data or DATA[name], "--output", output, *options]
    return predict_here(*command, "--batch-size", str(BATCH_SIZE), folder=models.folder)


def read(path: Path) -> dict[str, np.ndarray]:
    found = np.load(path)
    return {name: found[name] for name in found.dtype.names} if found.dtype.names else {"one": found}


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_the_answers_are_those_of_the_library(num_ranks: int, models: Models) -> None:
    folder = models.folder / str(num_ranks)
    folder.mkdir()
    jobs = [
        {"model": f"./{name}", "data": data, "output": f"{num_ranks}/{name}.npy", "batch_size": BATCH_SIZE}
        for name, data in DATA.items()
    ]
    if num_ranks == 1:
        for job in jobs:
            outcome = predict(models, str(job["model"])[2:], output=str(job["output"]))
            assert outcome.code == 0, outcome.output
    else:
        if num_ranks == 2:
            jobs.append(jobs[0] | {"output": "2/stages.npy", "model_parallel": 2, "pipeline_stages": 2})
        (folder / "jobs.json").write_text(json.dumps(jobs))
        script = PROGRAMS / "several.py"
        outcome = run([*mpirun(num_ranks), *python(), script, folder / "jobs.json"], models.folder)
        assert outcome.code == 0, outcome.output
    for name, expected in models.expected.items():
        found = read(folder / f"{name}.npy")
        assert len(found) == len(expected), name
        for column, wanted in zip(found.values(), expected.values(), strict=True):
            assert column.shape == wanted.shape, name
            assert column.tobytes() == wanted.tobytes(), (name, np.abs(column - wanted).max())
    if num_ranks == 2:
        assert np.allclose(np.load(folder / "stages.npy"), models.expected["vit"]["logits"], atol=1e-6)


def test_labels_are_those_of_the_pipeline(models: Models) -> None:
    outcome = predict(models, "convnext", "--postprocess", "argmax", "--keep", "path", output="labels.parquet")
    assert outcome.code == 0, outcome.output
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(models.folder / "labels.parquet").to_pylist()
    classify = transformers.pipeline("image-classification", str(models.folder / "convnext"), device="cpu")
    paths = sorted((models.folder / "photos").iterdir())
    best = [classify(str(path), top_k=1)[0]["label"] for path in paths]
    assert [row["path"] for row in found] == [path.name for path in paths]
    assert [f"LABEL_{row['predictions']}" for row in found] == best


def test_floating_point_rows_are_taken_as_they_are(models: Models) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(models.folder / "vit")
    pixels = processor(models.images["first.npy"], return_tensors="np")["pixel_values"]
    np.save(models.folder / "ready.npy", pixels)
    shutil.copytree(models.folder / "vit", models.folder / "bare")
    (models.folder / "bare/preprocessor_config.json").unlink()
    for name in ("vit", "bare"):
        outcome = predict(models, name, data="ready.npy", output=f"ready-{name}.npy")
        assert outcome.code == 0, outcome.output
        found = np.load(models.folder / f"ready-{name}.npy")
        assert found.tobytes() == models.expected["vit"]["logits"].tobytes()
    outcome = predict(models, "bare", data="first.npy", output="bare.npy")
    assert (outcome.code, "has no image processor in it" in outcome.output) == (65, True), outcome.output


def test_features_of_timm(models: Models) -> None:
    outcome = predict(models, "test_resnet", "--model-args", '{"features": true}', output="features.npy")
    assert outcome.code == 0, outcome.output
    expected = models.answer("test_resnet", num_classes=0)["only"]
    assert np.load(models.folder / "features.npy").tobytes() == expected.tobytes()


def test_files_that_take_too_much_at_once_are_computed_in_smaller_batches(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = sorted((models.folder / "photos").iterdir())
    decoded = [3 * width * height for width, height in (size_of(photo.read_bytes()) for photo in photos)]
    smallest = int(np.argmin(decoded[: NUM_ROWS // 2]))  # the first row, of which a batch is made on trial
    monkeypatch.setattr(decode, "_BATCH_BYTES", max(BATCH_SIZE * decoded[smallest], *decoded))
    outcome = predict(models, "convnext", "--skip", str(smallest), data="photos::file", output="less.npy")
    assert outcome.code == 0, outcome.output
    assert json.loads((models.folder / "less.npy.run/report.json").read_text())["halved_rows"] >= BATCH_SIZE
    expected = models.expected["convnext"]["logits"][smallest:]
    assert np.allclose(np.load(models.folder / "less.npy"), expected, atol=1e-6)


def test_bad_files_are_set_aside(models: Models) -> None:
    photos = models.folder / "some"
    shutil.copytree(models.folder / "photos", photos)
    names = sorted(os.listdir(photos))
    contents = [b"", b"<html>", (photos / names[5]).read_bytes()[:300]]
    for name, content in zip(names[1:9:3], contents, strict=True):
        (photos / name).write_bytes(content)
    Image.fromarray(np.full((20, 20), 999, np.uint16)).save(photos / "zz.png")
    outcome = predict(models, "convnext", "--on-error", "quarantine", data="some::file", output="some.npy")
    assert outcome.code == 0, outcome.output
    lines = (models.folder / "some.npy.run/quarantine.jsonl").read_text().splitlines()
    errors = {json.loads(line)["row"]: json.loads(line)["error"] for line in lines}
    for row, says in {1: "row 1 is empty", 4: "no image", 7: "cannot be decoded", 11: "more than 8 bits"}.items():
        assert says in errors.pop(row)
    assert not errors
    found = np.load(models.folder / "some.npy")
    assert np.isnan(found[[1, 4, 7, 11]]).all()
    good = [row for row in range(NUM_ROWS) if row not in (1, 4, 7)]
    assert np.allclose(found[good], models.expected["convnext"]["logits"][good], atol=1e-6)


def test_a_function_gets_the_bytes_of_files_and_no_rows_work(models: Models) -> None:
    options = ("--preprocess", "test_image_models:sizes", "--data", "photos::file")
    outcome = predict_here("--model", "test_image_models:Prepared", *options, "--output", "s.npy", folder=models.folder)
    assert outcome.code == 0, outcome.output
    paths = sorted((models.folder / "photos").iterdir())
    assert np.load(models.folder / "s.npy").tolist() == [list(size_of(path.read_bytes())) for path in paths]
    for name in ("convnext", "test_vit"):
        outcome = predict(models, name, "--limit", "0", data="photos::file", output=f"none-{name}.npy")
        assert outcome.code == 0, outcome.output
        assert np.load(models.folder / f"none-{name}.npy").shape == (0, 5)


def test_another_processor_is_another_run(models: Models) -> None:
    shutil.copytree(models.folder / "photos", models.folder / "broken")
    (models.folder / "broken/010.jpg").write_bytes(b"broken")
    shutil.copytree(models.folder / "vit", models.folder / "changed")
    assert predict(models, "changed", data="broken::file", output="c.npy").code == 65
    path = models.folder / "changed/preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rescale_factor": 1.0}))
    outcome = predict(models, "changed", data="broken::file", output="c.npy")
    assert (outcome.code, "model_settings" in outcome.output) == (65, True), outcome.output


def test_what_is_refused(models: Models) -> None:
    pixels = np.load(models.folder / "first.npy")
    rows = {
        "integers": pixels.astype(np.int64),
        "flat": pixels.reshape(NUM_ROWS, -1),
        "either": pixels[..., :3],
        "neither": pixels[:, :2],
        "wide": pixels.astype(np.float64),
    }
    for name, values in rows.items():
        np.save(models.folder / f"{name}.npy", values)
    for name, file in (("unweighted", "model.safetensors"), ("unknown", "config.json")):
        shutil.copytree(models.folder / "test_resnet", models.folder / name)
        (models.folder / name / file).unlink()
    (models.folder / "unknown/config.json").write_text('{"architecture": "test_none", "pretrained_cfg": {}}')
    text_model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
            vision_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16},
        )
    )
    text_model.save_pretrained(models.folder / "both")
    cases: list[tuple[str, str, tuple[str, ...], int, str]] = [
        ("vit", "integers.npy", (), 65, "int64 rows of shape (3, 40, 33) are not images"),
        ("vit", "flat.npy", (), 65, "uint8 rows of shape (3960,) are not images"),
        ("vit", "either.npy", (), 65, "may be (3, height, width) or (height, width, 3)"),
        ("test_vit", "neither.npy", (), 65, "are neither (3, height, width) nor (height, width, 3)"),
        ("resnet", "wide.npy", (), 65, "The model's input is torch.float64, its weights are torch.float32"),
        ("both", "first.npy", (), 65, '{"class": "CLIPVisionModelWithProjection"}'),
        ("unweighted", "first.npy", (), 65, "cannot be loaded by timm: RuntimeError: No suitable checkpoints"),
        ("unknown", "first.npy", (), 65, "cannot be loaded by timm: RuntimeError: Unknown model (test_none)"),
        ("vit", "photos", (), 65, "of a model folder: --data photos::file"),
        ("vit", "photos::file", ("--keep", "file"), 64, "--keep path keeps their names"),
        ("vit", "photos.tar::jpg@file", ("--keep", "jpg"), 64, "files cannot be kept"),
        ("vit", "photos::file", ("--columns", "file,label"), 64, "--columns file"),
        ("vit", "photos", ("--columns", "file,label"), 65, "takes images as the one column"),
        ("test_vit", "first.npy", ("--model-args", '{"pooling": "mean"}'), 64, "'pooling' is not one of features"),
    ]
    for number, (name, data, options, code, says) in enumerate(cases):
        outcome = predict(models, name, *options, data=data, output=f"refused-{number}.npy")
        assert (outcome.code, says in outcome.output) == (code, True), (name, data, outcome.output)
        assert outcome.output.count("runner: error") == 1, outcome.output
    outcome = predict_here(
        "--model", "test_image_models:Prepared", "--data", "photos::file", "--output", "no.npy", folder=models.folder
    )
    assert (outcome.code, "rows that are files need a folder" in outcome.output) == (65, True), outcome.output

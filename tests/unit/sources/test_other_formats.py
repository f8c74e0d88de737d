"""The classes of docs/data.md for other formats, with the options that it shows, against their libraries."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import uproot
from launch import predict_here
from pages import ROOT, blocks
from pydicom.data import get_testdata_file

RNG = np.random.default_rng(0)


def write_nifti(folder: Path) -> np.ndarray:
    volumes = RNG.normal(size=(5, 6, 4, 7)).astype(np.float32)
    nibabel.Nifti1Image(volumes, np.eye(4)).to_filename(folder / "scan.nii.gz")
    return np.moveaxis(volumes, -1, 0)


def write_series(folder: Path) -> np.ndarray:
    """Slices in another order than their names."""
    (folder / "series").mkdir()
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    slices = []
    for number, name in enumerate("cab", 1):
        image.PixelData = (image.pixel_array + number).tobytes()
        image.InstanceNumber = number
        image.SOPInstanceUID = f"1.2.{number}"
        image.save_as(folder / f"series/{name}.dcm")
        slices.append(image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept))
    return np.stack(slices)


def write_tree(folder: Path) -> np.ndarray:
    values = RNG.normal(size=(2, 2300))
    with uproot.recreate(folder / "events.root") as file:
        file["events"] = {"pt": values[0], "eta": values[1], "charge": np.arange(2300)}
    return values.T


def write_tiff(folder: Path) -> np.ndarray:
    image = RNG.integers(0, 255, (100, 90, 3)).astype("u1")
    tifffile.imwrite(folder / "scene.tif", image, tile=(16, 16), compression="zlib")
    return np.stack([image[y : y + 32, x : x + 32] for y in (0, 32, 64) for x in (0, 32)])


WRITERS = {"Nifti": write_nifti, "DicomSeries": write_series, "RootTree": write_tree, "Windows": write_tiff}
KEPT: dict[str, list[dict[str, Any]]] = {
    "DicomSeries": [{"id": f"1.2.{number}"} for number in (1, 2, 3)],
    "Windows": [{"y": y, "x": x} for y in (0, 32, 64) for x in (0, 32)],
}


def test_every_class_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(block for block in blocks("docs/data.md") if block.language == "python")
    (tmp_path / "other_formats.py").write_text(block.text)
    shown = re.findall(r"`(--data other_formats:(\w+) .*)` \|$", (ROOT / "docs/data.md").read_text(), re.MULTILINE)
    assert {name for _, name in shown} == set(WRITERS)
    for options, name in shown:
        expected = WRITERS[name](tmp_path)
        command = ["--model", "zoo:Identity", *shlex.split(options), "--output", f"{name}.jsonl"]
        outcome = predict_here(*command, folder=tmp_path)
        assert outcome.code == 0, outcome.output
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        np.testing.assert_array_equal(np.array([row.pop("predictions") for row in rows], expected.dtype), expected)
        assert rows == KEPT.get(name, [{}] * len(rows))
    monkeypatch.delitem(sys.modules, "other_formats")

"""Arrays in .npz: every layout, and bounds of what is decompressed."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from array_files import FIELDS, NUM_ROWS, NUMBERS, RNG, assert_same, write
from launch import predict_here

from runner.core.errors import InputError
from runner.sources import open_source
from runner.sources.arrays import npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_every_layout(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {"turned": np.asfortranarray(NUMBERS["images"]), "fields": FIELDS, "folder/x": NUMBERS["big"]}
    save(tmp_path / "d.npz", **arrays)
    for name, array in arrays.items():
        assert np.array_equal(open_source(f"{tmp_path}/d.npz::{name}").read(3, 900), array[3:900])
    assert list(open_source(f"{tmp_path}/d.npz").row_type) == list(arrays)  # by default all
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:  # behind something, with an extra field in front of the values
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (tmp_path / "e.npz").write_bytes(b"what is in front\n")
    with zipfile.ZipFile(tmp_path / "e.npz", "a") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.extra = b"\xff\xff\x03\x00abc"
            archive.writestr(info, content)
    assert np.array_equal(open_source(f"{tmp_path}/e.npz::folder/x").read(3, 900), NUMBERS["big"][3:900])
    assert open_source(f"{tmp_path}/e.npz").digest() == open_source(f"{tmp_path}/d.npz").digest()


def test_compressed_arrays_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("compressed", tmp_path)
    whole = open_source(path, ["half", "flat"])
    monkeypatch.setattr(npz, "_KEPT_BYTES", 10_000)
    assert open_source(f"{path}::flat").num_rows == NUM_ROWS
    with pytest.raises(
        InputError, match=r"d\.npz: .* would hold images in memory: 355 KiB .* numpy\.savez or as \.npy"
    ):
        open_source(f"{path}::images")
    with pytest.raises(InputError, match=r"would hold complex, half in memory: 9\.85 KiB of at most 9\.77 KiB"):
        open_source(path, ["complex", "half"])
    # of the first rows, no more than these is decompressed; what is column-major is needed completely
    few = open_source(path, ["images", "half"], most_rows=20)
    assert_same(few.read(15, 20)["images"], NUMBERS["images"][15:20])
    assert few.num_rows == NUM_ROWS
    assert few.digest() == open_source(path, ["images", "half"], most_rows=9).digest()
    assert np.array_equal(whole.read(1000, 1009)["half"], NUMBERS["half"][1000:])
    np.savez_compressed(tmp_path / "e.npz", x=np.asfortranarray(NUMBERS["images"][:60]))
    with pytest.raises(InputError, match="would hold x in memory"):
        open_source(f"{tmp_path}/e.npz", most_rows=1)
    command = ["--model", "zoo:Identity", "--data", f"{path}::images", "--output", "p.npy"]
    assert predict_here(*command, folder=tmp_path).code == 65
    assert predict_here(*command, "--skip", "3", "--limit", "9", folder=tmp_path).code == 0
    assert np.array_equal(np.load(tmp_path / "p.npy"), NUMBERS["images"][3:12])


def test_a_damaged_compressed_array_is_named(tmp_path: Path) -> None:
    path = Path(write("compressed", tmp_path, {"x": RNG.normal(size=(NUM_ROWS, 50))}))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"spoilt")
    source = open_source(str(path))
    for row in (0, 900):
        with pytest.raises(InputError, match=r"d\.npz::x cannot be decompressed"):
            source.read(row, row + 1)


def test_a_sparse_matrix_is_not_read_as_its_values(tmp_path: Path) -> None:
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.eye(4, format="csr"))
    for data in (f"{tmp_path}/s.npz", f"{tmp_path}/s.npz::data"):
        with pytest.raises(InputError, match=r"is a sparse matrix of SciPy. Save it dense"):
            open_source(data)

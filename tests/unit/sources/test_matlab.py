"""Variables of MATLAB files: MATLAB's own as scipy ships them, and SciPy's; of version 7.3 laid out as MATLAB does."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from launch import predict_here

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.arrays import matlab

FROM_MATLAB = Path(scipy.io.__file__).parent / "matlab/tests/data"
NUM_ROWS = 103
RNG = np.random.default_rng(0)
VARIABLES: dict[str, np.ndarray] = {
    "matrix": RNG.normal(size=(NUM_ROWS, 5)),
    "cube": RNG.normal(size=(NUM_ROWS, 2, 3)).astype("f4"),
    "column": np.arange(NUM_ROWS, dtype="i4")[:, None],
    "wide": np.arange(NUM_ROWS, dtype="u8")[:, None] << np.uint64(40),
    "good": np.arange(NUM_ROWS)[:, None] % 3 == 0,
    "complex": RNG.normal(size=(NUM_ROWS, 2)) + 1j,
}
TEXTS = [f"möglich {row}".ljust(12) for row in range(NUM_ROWS)]


def write_73(path: Path, variables: dict[str, np.ndarray], chunked: bool) -> None:
    """As MATLAB does: axes in reverse, after a header of its own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            kind = {"f8": "double", "f4": "single", "b1": "logical", "c16": "double"}.get(values.dtype.str[1:])
            stored = values.view("u1") if values.dtype == bool else values
            if values.dtype.kind == "c":
                stored = values.view([("real", "f8"), ("imag", "f8")]).reshape(values.shape)
            options = {"chunks": (*(1 for _ in values.shape[1:]), 40), "compression": 3} if chunked else {}
            dataset = file.create_dataset(name, data=stored.T, **options)
            dataset.attrs["MATLAB_class"] = np.bytes_(kind or values.dtype.name)
        letters = np.array([[*text] for text in TEXTS]).view("u4").astype("u2")
        file.create_dataset("text", data=letters.T).attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("s/field", data=values.real.T.copy()).attrs["MATLAB_class"] = np.bytes_("double")
        file["s"].attrs["MATLAB_class"] = np.bytes_("struct")
        sparse = file.create_group("sparse")
        sparse.attrs["MATLAB_class"], sparse.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(3)
        empty = file.create_dataset("empty", data=np.array([0, 4], "u8"))
        empty.attrs["MATLAB_class"], empty.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)
        file["plain"] = np.zeros(3)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("version", ["4", "5", "5, compressed", "7.3", "7.3, compressed"])
def test_any_rows_of_any_version(version: str, tmp_path: Path) -> None:
    path, variables = tmp_path / "d.mat", dict(VARIABLES)
    if version == "4":
        variables = {"matrix": VARIABLES["matrix"]}
        scipy.io.savemat(path, {**variables, "text": np.array(TEXTS)}, format="4")
    elif version.startswith("5"):
        scipy.io.savemat(path, {**variables, "text": np.array(TEXTS)}, do_compression="compressed" in version)
    else:
        write_73(path, variables, "compressed" in version)
    for name, values in variables.items():
        source = open_source(f"{path}::{name}")
        assert source.num_rows == NUM_ROWS
        assert source.row_type == RowType(values.shape[1:], values.dtype)
        for start, stop in [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (35, 90), (7, 7)]:
            rows = source.read(start, stop)
            assert isinstance(rows, np.ndarray)
            assert rows.flags.c_contiguous
            np.testing.assert_array_equal(rows, values[start:stop], strict=True)
        assert source.digest() == open_source(f"{path}::{name}").digest()
    both = open_source(str(path), ["matrix"], ["text"])
    assert both.row_type["text"] == RowType(RAGGED, TEXT)  # type: ignore[index]
    assert as_batch(both.read(5, 99))["text"] == TEXTS[5:99]


@pytest.mark.parametrize("name", ["matrix_4.2c_SOL2", "matrix_6.1_SOL2", "3dmatrix_7.4_GLNX86", "complex_7.4_GLNX86",
                                  "complex_4.2c_SOL2", "bool_8_WIN64", "hdf5_7.4_GLNX86"])  # fmt: skip
def test_files_that_matlab_wrote(name: str) -> None:
    """Whole doubles, which MATLAB may store as bytes, are doubles; imaginary parts stay."""
    path = FROM_MATLAB / f"test{name}.mat"
    source = open_source(str(path))
    rows = source.read(0, source.num_rows)
    if name.startswith("hdf5"):
        expected = scipy.io.loadmat(FROM_MATLAB / "testdouble_7.4_GLNX86.mat")["testdouble"]
        assert "is one row of 9 values, as MATLAB has a row vector" in source.notes[0]  # type: ignore[attr-defined]
    else:
        ((variable, _, kind),) = scipy.io.whosmat(path)
        expected = scipy.io.loadmat(path)[variable]
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == {"c": "c16", "b": "?"}.get("b" if kind == "logical" else expected.dtype.kind, "f8")
    np.testing.assert_array_equal(rows, expected)


def test_texts_that_matlab_wrote() -> None:
    source = open_source(str(FROM_MATLAB / "teststringarray_7.4_GLNX86.mat"))
    assert as_batch(source.read(0, 3)) == ["one  ", "two  ", "three"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell_7.4_GLNX86", r"class cell; rows must be numbers, logical or char\. .*save char\(testcell\)"),
        ("struct_7.4_GLNX86", r"save\('d\.mat', '-struct', 'teststruct'\)"),
        ("sparse_7.4_GLNX86", r"full\(testsparse\)"),
        ("object_7.4_GLNX86", "class object; rows must be"),
        ("multi_7.4_GLNX86", "has several variables: a, theta"),
    ],
)
def test_other_classes_are_told_what_to_do(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(str(FROM_MATLAB / f"test{name}.mat"))


def test_a_sparse_logical_is_refused() -> None:
    with pytest.raises(InputError, match=r"sp_log_5_4 is sparse\. Save it dense"):
        open_source(str(FROM_MATLAB / "logical_sparse.mat"))


def test_what_version_73_cannot_have_as_rows(tmp_path: Path) -> None:
    path = tmp_path / "d.mat"
    write_73(path, VARIABLES, False)
    np.testing.assert_array_equal(open_source(f"{path}::s.field").read(3, 5), VARIABLES["complex"].real[3:5])
    for name, message in (
        ("sparse", r"class sparse; .*full\(sparse\)"),
        ("empty", "is empty: MATLAB's size of it is 0x4"),
        ("plain", r"was not written by MATLAB; .* rename it \.h5"),
        ("s", r"'-struct', 's'"),
        ("none", "has no variable 'none'; it has column, complex"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{name}")
    (tmp_path / "d.h5").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"axes in reverse.*Rename the file to end in \.mat"):
        open_source(f"{tmp_path}/d.h5::matrix")


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_damaged_files_are_named(version: str, tmp_path: Path) -> None:
    path = tmp_path / "d.mat"
    scipy.io.savemat(path, VARIABLES) if version == "5" else write_73(path, VARIABLES, True)
    content = path.read_bytes()
    for end in (0, 100, 600, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=re.escape(str(path))):
            open_source(f"{path}::complex").read(0, NUM_ROWS)
    path.write_bytes(b"rows\n" * 100)
    with pytest.raises(InputError, match="is not a MATLAB file, is truncated, or is damaged"):
        open_source(str(path))


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.mat"
    scipy.io.savemat(path, {**VARIABLES, "text": np.array(TEXTS)}, do_compression=True)
    monkeypatch.setattr(matlab, "_KEPT_BYTES", 4000)
    assert open_source(f"{path}::column").num_rows == NUM_ROWS
    for name in ("text", "matrix"):
        with pytest.raises(InputError, match=rf"would hold {name} in memory: .*save\('d\.mat', '-v7\.3'\)"):
            open_source(f"{path}::{name}")


def test_a_job_keeps_what_lies_beside(tmp_path: Path) -> None:
    write_73(tmp_path / "d.mat", VARIABLES, True)
    command = ["--model", "zoo:Identity", "--data", "d.mat", "--columns", "matrix", "--keep", "column,text"]
    outcome = predict_here(*command, "--skip", "3", "--output", "p.jsonl", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    last = (tmp_path / "p.jsonl").read_text().splitlines()[-1]
    assert f'"column":[102],"text":"{TEXTS[-1]}"' in last

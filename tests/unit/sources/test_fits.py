"""Images and tables of FITS, written by astropy, against what it reads itself."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from launch import predict_here

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

NUM_ROWS = 107
RNG = np.random.default_rng(0)
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (40, 90), (7, 7)]
COUNTS = np.arange(NUM_ROWS * 12, dtype="i2").reshape(NUM_ROWS, 4, 3)
TEXTS = [f"star {row}" * (row % 3) for row in range(NUM_ROWS)]
IMAGES = ["FLOAT", "SCALED", "UNSIGNED", "BLANK", "BYTES", "COMPRESSED", "WIDE"]


def images() -> list[Any]:
    scaled = fits.ImageHDU(COUNTS.copy(), name="SCALED")
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 100
    blank = fits.ImageHDU(COUNTS.astype("i4"), name="BLANK")
    blank.header["BLANK"] = 77
    return [
        fits.ImageHDU(RNG.normal(size=(NUM_ROWS, 4, 3)).astype("f4"), name="FLOAT"),
        scaled,
        fits.ImageHDU(COUNTS.astype("u2") + np.uint16(40_000), name="UNSIGNED"),
        blank,
        fits.ImageHDU(COUNTS.astype("u1"), name="BYTES"),
        fits.CompImageHDU(COUNTS.astype("i4"), name="COMPRESSED", tile_shape=(10, 4, 3)),
        fits.ImageHDU(COUNTS.astype("i8"), name="WIDE"),
    ]


def table() -> Any:
    sequences = np.empty(NUM_ROWS, object)
    sequences[:] = [np.arange(row % 5, dtype="f4") for row in range(NUM_ROWS)]
    number = np.arange(NUM_ROWS)
    columns = [
        fits.Column("id", "J", array=number * 1000),
        fits.Column("wide", "K", array=number.astype("i8") << 40),
        fits.Column("flux", "E", array=RNG.normal(size=NUM_ROWS)),
        fits.Column("vector", "3D", array=RNG.normal(size=(NUM_ROWS, 3))),
        fits.Column("matrix", "6E", dim="(3,2)", array=RNG.normal(size=(NUM_ROWS, 2, 3))),
        fits.Column("unsigned", "I", bzero=1 << 15, array=(number + 40_000).astype("u2")),
        fits.Column("unsigned64", "K", bzero=1 << 63, array=number.astype("u8") + np.uint64(1 << 63)),
        fits.Column("signed8", "B", bzero=-128, array=(number - 50).astype("i1")),
        fits.Column("scaled", "E", bscale=0.5, bzero=10, array=number * 0.25),
        fits.Column("wave", "M", array=number * 1j),
        fits.Column("bit", "X", array=number[:, None] % 2 == 1),
        fits.Column("bits", "10X", array=(number[:, None] >> np.arange(10)) % 2 == 1),
        fits.Column("good", "L", array=number % 3 == 0),
        fits.Column("missing", "I", null=-99, array=np.where(number == 50, -99, number)),
        fits.Column("name", "16A", array=TEXTS),
        fits.Column("tokens", "PE()", array=sequences),
        fits.Column("long", "QE()", array=sequences),
    ]
    return fits.BinTableHDU.from_columns(columns, name="STARS")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    ascii_table = fits.TableHDU.from_columns([fits.Column("a", "I4", array=[1, 2])], name="ASCII")
    file = tmp_path_factory.mktemp("fits") / "d.fits"
    fits.HDUList([fits.PrimaryHDU(), *images(), table(), ascii_table]).writeto(file)
    return str(file)


def test_any_rows_of_images_are_what_the_library_reads(path: str) -> None:
    with fits.open(path) as file:
        for name in IMAGES:
            expected = file[name].data
            source = open_source(f"{path}::{name}")
            assert source.row_type == RowType((4, 3), expected.dtype.newbyteorder("=")), name
            for start, stop in RANGES:
                rows = source.read(start, stop)
                assert isinstance(rows, np.ndarray)
                assert rows.dtype.isnative
                np.testing.assert_array_equal(rows, expected[start:stop])
            assert source.digest() == open_source(f"{path}::{name}").digest()
        assert np.isnan(open_source(f"{path}::BLANK").read(0, NUM_ROWS)).sum() == 1  # type: ignore[arg-type]


def test_any_rows_of_a_table_are_what_the_library_reads(path: str) -> None:
    expected = Table.read(path, hdu="STARS", unit_parse_strict="silent")
    source = open_source(f"{path}::STARS", options=ReadOptions(null_is_nan=True))
    assert source.row_type["name"] == RowType(RAGGED, TEXT)  # type: ignore[index]
    assert source.row_type["tokens"] == RowType(RAGGED, np.dtype("f4"))  # type: ignore[index]
    for start, stop in RANGES:
        rows = source.read(start, stop)
        assert list(rows) == expected.colnames  # type: ignore[arg-type]
        for name, found in as_batch(rows).items():
            theirs = expected[name][start:stop]
            if name == "name":
                assert found == theirs.tolist()
            elif name in ("tokens", "long"):
                assert [row.tolist() for row in found] == [row.tolist() for row in theirs]
            elif name == "missing":
                np.testing.assert_array_equal(found, theirs.astype("f8").filled(np.nan))
            else:
                values = rows[name]  # type: ignore[call-overload,index]
                np.testing.assert_array_equal(values, np.asarray(theirs), name)
                if name != "signed8":  # floating point in astropy
                    assert values.dtype == theirs.dtype.newbyteorder("="), name
    two = open_source(f"{path}::8", ["flux"], ["id"])
    assert list(two.row_type) == ["flux", "id"]  # type: ignore[arg-type]
    assert two.digest() == open_source(f"{path}::STARS,1", ["flux"], ["id"]).digest()


def test_null_is_a_bad_row(path: str) -> None:
    with pytest.raises(InputError, match=r"column 'missing': row 50 is null\. Read nulls as NaN with --null nan"):
        open_source(f"{path}::STARS", ["missing"]).read(45, 60)
    rows = open_source(f"{path}::STARS", ["missing"]).read(51, 60)
    assert rows.tolist() == [*range(51, 60)]  # type: ignore[union-attr]


def test_a_job_keeps_columns(path: str, tmp_path: Path) -> None:
    command = ["--model", "zoo:Identity", "--data", f"{path}::STARS", "--columns", "vector"]
    command += ["--keep", "missing,name,good", "--skip", "49", "--limit", "3", "--output", "p.csv"]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    rows = [line.split(",")[:3] for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert rows[1:] == [["49", f'"{TEXTS[49]}"', "false"], ["", f'"{TEXTS[50]}"', "false"], ["51", '""', "true"]]


def test_what_has_no_rows_is_told(path: str, tmp_path: Path) -> None:
    for data, columns, error, message in (
        (path, [], InputError, r"data in several extensions: 1: FLOAT, .*Choose one by its number or name: .*::1"),
        (f"{path}::NONE", [], InputError, "has no extension 'NONE'; it has 0: PRIMARY, "),
        (f"{path}::99", [], InputError, "has no extension '99'"),
        (f"{path}::ASCII", [], InputError, r"kind TableHDU, without rows.*hdu=9\)\.write"),
        (f"{path}::0", [], InputError, "kind PrimaryHDU, without rows"),
        (f"{path}::STARS", ["x"], InputError, "has no column 'x'; it has id, wide"),
        (f"{path}::FLOAT", ["x"], UsageError, "is an image, which has no columns"),
    ):
        with pytest.raises(error, match=message):
            open_source(data, columns)
    fits.PrimaryHDU().writeto(tmp_path / "none.fits")
    with pytest.raises(InputError, match="holds no data"):
        open_source(f"{tmp_path}/none.fits")


def test_damaged_files_are_named(path: str, tmp_path: Path) -> None:
    damaged, content = tmp_path / "d.fits", Path(path).read_bytes()
    with fits.open(path) as file:
        table_end = file["STARS"].fileinfo()["datLoc"] + file["STARS"].size
    for end in (0, 100, 5000, len(content) // 2, table_end - 1):
        damaged.write_bytes(content[:end])
        with pytest.raises(InputError, match=re.escape(str(damaged))):
            open_source(f"{damaged}::STARS")
    with fits.open(path) as file:
        place = file["COMPRESSED"].fileinfo()["datLoc"]
        end = place + file["COMPRESSED"].fileinfo()["datSpan"]
        heap = file["STARS"].fileinfo()["datLoc"] + file["STARS"].columns.dtype.fields["tokens"][1]
        good = file["STARS"].fileinfo()["datLoc"] + file["STARS"].columns.dtype.fields["good"][1]
    form = content.index(b"TFORM1 ", content.index(b"BINTABLE", end))
    for value, message in ((b"'J       \x00", "damaged header: "), (b"'3J      '", "damaged header: rows are of ")):
        damaged.write_bytes(content[: form + 10] + value + content[form + 20 :])
        with pytest.raises(InputError, match=re.escape(str(damaged)) + f".*{message}"):
            open_source(f"{damaged}::STARS")
    damaged.write_bytes(content[: end - 5000])
    with pytest.raises(InputError, match=re.escape(str(damaged))):
        open_source(f"{damaged}::COMPRESSED").read(0, NUM_ROWS)
    damaged.write_bytes(content[:heap] + b"\x00\x00\xff\xff" + content[heap + 4 :])
    with pytest.raises(InputError, match="values of rows 0 to 4 lie outside of the heap"):
        open_source(f"{damaged}::STARS", ["tokens"]).read(0, 5)
    damaged.write_bytes(content[:good] + b"?" + content[good + 1 :])
    with pytest.raises(InputError, match="a logical value is byte 63, which is neither T, F nor null"):
        open_source(f"{damaged}::STARS", ["good"]).read(0, 5)
    damaged.write_bytes(content[:good] + b"\x00" + content[good + 1 :])
    with pytest.raises(InputError, match="row 0 is null"):
        open_source(f"{damaged}::STARS", ["good"]).read(0, 5)
    source = open_source(f"{damaged}::STARS", ["flux"])
    damaged.write_bytes(content[:good])
    with pytest.raises(InputError, match="has become shorter while it was read"):
        source.read(0, NUM_ROWS)


def test_behind_a_url(path: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://fits/d.fits", "wb") as file:
        file.write(Path(path).read_bytes())
    for name in ("FLOAT", "COMPRESSED"):
        rows = [open_source(f"{where}::{name}").read(40, 90) for where in ("memory://fits/d.fits", path)]
        np.testing.assert_array_equal(*rows, strict=True)
    tables = [open_source(f"{where}::STARS", ["flux"], ["name"]) for where in ("memory://fits/d.fits", path)]
    assert tables[0].digest() == tables[1].digest()

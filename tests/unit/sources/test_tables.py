"""The tables of formats and kinds of models: each row can be imported, and its page names it."""

import ast
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from runner.config.formats import OUTPUT_FORMATS
from runner.config.model_kinds import FACTORY, MODEL_KINDS, PLUGIN
from runner.core.errors import UsageError
from runner.core.imports import import_errors, load_attribute
from runner.data.rows import RowType
from runner.sinks import find_writer
from runner.sources import open_source
from runner.sources.registry import DATASET_FUNCTION, MEDIA_FOLDER, SOURCE_FORMATS

ROOT = Path(__file__).parents[3]
SOURCES = (*SOURCE_FORMATS, DATASET_FUNCTION, MEDIA_FOLDER)
KINDS = (FACTORY, PLUGIN, *MODEL_KINDS)
NAMES = {
    *(row.reader for row in SOURCES),
    *(row.writer for row in OUTPUT_FORMATS if row.writer),
    *(kind.build for kind in KINDS),
    *(kind.recognizer for kind in KINDS if kind.recognizer),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_a_row_names_can_be_imported(name: str) -> None:
    assert callable(load_attribute(name, "--data"))


def test_the_pages_name_every_row() -> None:
    data, outputs, models = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("data", "outputs", "models"))
    suffixes = [suffix for row in SOURCES for suffix in row.suffixes]
    assert [suffix for suffix in suffixes if f"d{suffix}" not in data] == []
    schemes = {scheme.rstrip("+:/") for row in SOURCES for scheme in row.schemes}
    assert [scheme for scheme in schemes if scheme not in data.lower()] == []
    suffixes = [suffix for row in OUTPUT_FORMATS for suffix in row.suffixes]
    assert [suffix for suffix in suffixes if f"PATH{suffix}" not in outputs] == []
    assert [kind.name for kind in MODEL_KINDS if kind.name not in models] == []
    for page, rows in ((data, SOURCES), (outputs, OUTPUT_FORMATS)):
        assert [row.extra for row in rows if row.extra and f"[{row.extra}]" not in page] == []


def test_every_extra_that_a_message_names_can_be_installed() -> None:
    named = {row.extra for row in (*SOURCES, *OUTPUT_FORMATS) if row.extra}
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("import_extra", "missing_library"):
                named |= {node.args[2].value} if isinstance(node.args[2], ast.Constant) else set()
    assert {"timm", "huggingface", "sql", "url"} <= named
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert named <= extras.keys()


@pytest.mark.parametrize(
    ("name", "library", "message"),
    [
        ("d.h5", "h5py", "d.h5 needs h5py: pip install 'horovod-inference-runner[hdf5]'"),
        ("d.zarr", "zarr", "d.zarr needs zarr: pip install 'horovod-inference-runner[zarr]'"),
        ("d.csv", "pyarrow", "d.csv needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("d.jsonl", "pyarrow", "d.jsonl needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("d.feather", "pyarrow", "d.feather needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("d.parquet", "pyarrow", "d.parquet needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("images", "PIL", "images needs Pillow: pip install 'horovod-inference-runner[images]'"),
        ("postgresql://me:secret@db/x", "sqlalchemy", "me:***@db/x needs SQLAlchemy: pip install"),
    ],
)
def test_a_missing_library_of_a_source(
    name: str, library: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    for file in ("d.h5", "d.csv", "d.jsonl", "d.feather"):
        (tmp_path / file).touch()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError) as caught:
        open_source(name)
    assert message in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("output", "library", "message"),
    [
        ("p.h5", "h5py", "--output p.h5 needs h5py: pip install 'horovod-inference-runner[hdf5]'"),
        ("p.zarr", "zarr", "--output p.zarr needs zarr: pip install 'horovod-inference-runner[zarr]'"),
        ("p.csv", "pyarrow", "--output p.csv needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("p.parquet", "pyarrow", "--output p.parquet needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("p.feather", "pyarrow", "--output p.feather needs pyarrow: pip install 'horovod-inference-runner[parquet]'"),
        ("p.jsonl", "orjson", "--output p.jsonl needs orjson: pip install 'horovod-inference-runner[jsonl]'"),
        ("p.png/", "PIL", "--output p.png/ needs Pillow: pip install 'horovod-inference-runner[images]'"),
    ],
)
def test_a_missing_library_of_a_sink(output: str, library: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError) as caught:
        find_writer(output, RowType((3, 4, 4), np.dtype(np.uint8)))
    assert caught.value.message == message


def test_a_library_that_no_extra_installs_or_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UsageError, match=r"--data d\.tiny needs nowhere_at_all, which is not installed"),
        import_errors("--data d.tiny", None),
    ):
        import nowhere_at_all  # type: ignore[import-not-found]  # noqa: F401
    (tmp_path / "broken_library.py").write_text("from math import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(UsageError, match="which cannot be imported: ImportError: cannot import name 'nothing_of"),
        import_errors("--data d.tiny", "tiny"),
    ):
        import broken_library  # type: ignore[import-not-found]  # noqa: F401

"""Data sets of Hugging Face's in folders and of PyTorch, against what they give themselves."""

import json
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Array2D, ClassLabel, Features, Image, List, Value
from launch import LAUNCHERS, predict_command, predict_here, python, run
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from runner.core.errors import InputError, ModelError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

NUM_ROWS = 211
RANGES = [(0, NUM_ROWS), (0, 0), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (50, 160)]
FLOAT32, FLOAT64, INT64 = (np.dtype(name) for name in ("float32", "float64", "int64"))

FEATURES = Features(
    {
        "x": Value("float32"),
        "vector": List(Value("float64"), length=3),
        "matrix": Array2D((2, 3), "float32"),
        "text": Value("string"),
        "tokens": List(Value("int32")),
        "label": ClassLabel(names=["cat", "dog"]),
        "good": Value("bool"),
    }
)


def as_lists(rows: Any) -> Any:
    if isinstance(rows, dict):
        return {name: as_lists(column) for name, column in rows.items()}
    return [item.tolist() if isinstance(item, torch.Tensor) else item for item in as_batch(rows)]


@pytest.fixture(scope="module")
def table() -> datasets.Dataset:
    rng = np.random.default_rng(0)
    datasets.disable_progress_bars()
    rows = {
        "x": rng.random(NUM_ROWS).astype("float32"),
        "vector": rng.random((NUM_ROWS, 3)).tolist(),
        "matrix": rng.random((NUM_ROWS, 2, 3)).astype("float32").tolist(),
        "text": [f"größe {row} " * (row % 3) for row in range(NUM_ROWS)],
        "tokens": [list(range(row % 6)) for row in range(NUM_ROWS)],
        "label": [row % 2 for row in range(NUM_ROWS)],
        "good": [row % 3 == 0 for row in range(NUM_ROWS)],
    }
    return datasets.Dataset.from_dict(rows, features=FEATURES)


@pytest.mark.parametrize("shards", [1, 3])
def test_any_range_of_a_folder(shards: int, table: datasets.Dataset, tmp_path: Path) -> None:
    table.select(range(NUM_ROWS)[::-1]).save_to_disk(tmp_path / "d", num_shards=shards)
    source, expected = open_source(str(tmp_path / "d")), datasets.load_from_disk(str(tmp_path / "d"))
    assert source.num_rows == NUM_ROWS
    assert source.row_type == {
        "x": RowType((), FLOAT32),
        "vector": RowType((3,), FLOAT64),
        "matrix": RowType((2, 3), FLOAT32),
        "text": RowType(RAGGED, TEXT),
        "tokens": RowType(RAGGED, np.dtype("int32")),
        "label": RowType((), INT64),
        "good": RowType((), np.dtype(bool)),
    }
    for start, stop in RANGES:
        assert as_lists(source.read(start, stop)) == expected[start:stop], (start, stop)
    matrices = open_source(f"{tmp_path / 'd'}::matrix")
    assert matrices.row_type == RowType((2, 3), FLOAT32)
    assert as_lists(matrices.read(3, 9)) == expected[3:9]["matrix"]
    two = open_source(str(tmp_path / "d"), ["tokens"], ["label"])
    assert as_lists(two.read(3, 9)) == {name: expected[3:9][name] for name in ("tokens", "label")}


def test_digest_and_stamp_of_a_folder(table: datasets.Dataset, tmp_path: Path) -> None:
    changed = table.map(lambda row, index: {"x": -1.0 if index == NUM_ROWS - 1 else row["x"]}, with_indices=True)
    for name, rows in (("a", table), ("b", table), ("c", changed), ("d", table.select(range(NUM_ROWS - 1)))):
        rows.save_to_disk(tmp_path / name)
    digests = [open_source(str(tmp_path / name)).digest() for name in "abcd"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    source = open_source(str(tmp_path / "a"))
    before = source.stamp()
    changed.save_to_disk(tmp_path / "a")
    assert source.stamp() != before


def test_folders_that_cannot_be_read(table: datasets.Dataset, tmp_path: Path) -> None:
    datasets.DatasetDict(train=table, test=table).save_to_disk(tmp_path / "both")
    with pytest.raises(
        InputError, match=r"holds several data sets: test, train\. Give one, such as --data .*both/test"
    ):
        open_source(str(tmp_path / "both"))
    assert open_source(str(tmp_path / "both/train")).num_rows == NUM_ROWS

    pictures = datasets.Dataset.from_dict({"image": [b""]}, features=Features({"image": Image()}))
    pictures.save_to_disk(tmp_path / "pictures")
    with pytest.raises(InputError, match="column 'image' is of type struct"):
        open_source(str(tmp_path / "pictures"))
    with pytest.raises(InputError, match="has no column 'y'; it has x, vector, "):
        open_source(f"{tmp_path / 'both/train'}::y")
    table.select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match="has no rows"):
        open_source(str(tmp_path / "none"))

    for name, damage, message in (
        ("state.json", lambda file: file.unlink(), "state.json: No such file"),
        ("state.json", lambda file: file.write_text("{"), "state.json is damaged"),
        ("state.json", lambda file: file.write_text("[]"), "state.json is damaged"),
        ("dataset_info.json", lambda file: file.write_text("{"), "Datasets cannot read the folder"),
        ("data-00000-of-00001.arrow", lambda file: file.unlink(), "data-00000-of-00001.arrow: No such file"),
        ("data-00000-of-00001.arrow", lambda file: file.write_bytes(b""), "Datasets cannot read the folder"),
        ("data-00000-of-00001.arrow", lambda f: f.write_bytes(f.read_bytes()[:-3000]), "Datasets cannot read"),
    ):
        table.save_to_disk(tmp_path / "damaged")
        damage(tmp_path / "damaged" / name)
        with pytest.raises(InputError, match=message):
            open_source(str(tmp_path / "damaged"))
        for file in (tmp_path / "damaged").iterdir():
            file.unlink()


def test_a_null_of_a_folder_is_set_aside(tmp_path: Path) -> None:
    values = [float(row) for row in range(1, 102)]
    rows = datasets.Dataset.from_dict({"x": [None if value == 78 else value for value in values]})
    rows.save_to_disk(tmp_path / "d")
    command = ["--model", "zoo:Identity", "--data", "d::x", "--output", "p.npy"]
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 77
    assert "row 77 of column 'x' is null" in line
    found = np.load(tmp_path / "p.npy")
    assert np.array_equal(np.delete(found, 77), np.delete(values, 77))


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, table: datasets.Dataset, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'horovod-inference-runner\[datasets\]'"):
        open_source(str(tmp_path / "d"))


Pair = namedtuple("Pair", "left right")


class Items(Dataset):
    """What a function makes of each index."""

    def __init__(self, make: Any, length: int = NUM_ROWS) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


KINDS: dict[str, tuple[Any, Any]] = {
    "tensor": (lambda i: torch.full((2, 3), i), RowType((2, 3), INT64)),
    "array": (lambda i: np.full(4, i, ">f4"), RowType((4,), FLOAT32)),
    "transposed": (lambda i: torch.arange(6).reshape(2, 3).t() * i, RowType((3, 2), INT64)),
    "bfloat16": (lambda i: torch.tensor([i, 1.5], dtype=torch.bfloat16), RowType((2,), FLOAT32)),
    "gradient": (lambda i: torch.tensor([float(i)], requires_grad=True) * 2, RowType((1,), FLOAT32)),
    "conjugate": (lambda i: torch.tensor([i * 1j]).conj(), RowType((1,), np.dtype("complex64"))),
    "number": (lambda i: i / 2, RowType((), FLOAT64)),
    "truth": (lambda i: i % 2 == 0, RowType((), np.dtype(bool))),
    "text": (lambda i: f"größe {i}" * (i % 3), RowType(RAGGED, TEXT)),
    "one in a tuple": (lambda i: (i,), RowType((), INT64)),
    "ragged": (lambda i: torch.arange(i % 5), RowType(RAGGED, INT64)),
    "tuple": (lambda i: (np.float32(i), f"{i}"), {"0": RowType((), FLOAT32), "1": RowType(RAGGED, TEXT)}),
    "named": (lambda i: Pair([i, i + 1], i), {"left": RowType((2,), INT64), "right": RowType((), INT64)}),
    "dict": (
        lambda i: {"b": torch.zeros(3), "a": [[i], [2]]},
        {"b": RowType((3,), FLOAT32), "a": RowType((2, 1), INT64)},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_every_kind(kind: str) -> None:
    make, row_type = KINDS[kind]
    source = open_source(Items(make))
    assert (source.num_rows, source.row_type) == (NUM_ROWS, row_type)
    for start, stop in RANGES:
        rows = source.read(start, stop)
        for position, found in enumerate(as_lists(rows) if not isinstance(rows, dict) else ()):
            item = make(start + position)
            item = item[0] if kind == "one in a tuple" else item
            assert found == (item.tolist() if hasattr(item, "tolist") else item)
        if isinstance(rows, dict):
            for name, column in as_lists(rows).items():
                for position, found in enumerate(column):
                    item = make(start + position)
                    item = (
                        item[name] if kind == "dict" else item._asdict()[name] if kind == "named" else item[int(name)]
                    )
                    assert found == (item.tolist() if hasattr(item, "tolist") else item)
    assert open_source(Items(make)).digest() == source.digest()


def test_data_sets_of_torch_itself() -> None:
    features, labels = torch.rand(NUM_ROWS, 3), torch.arange(NUM_ROWS)
    both = TensorDataset(features, labels)
    source = open_source(Subset(both, range(10, 100)), ["1"], ["0"])
    assert as_lists(source.read(5, 8)) == {"1": labels[15:18].tolist(), "0": features[15:18].tolist()}
    assert np.array_equal(open_source(both, ["0"]).read(7, 9), features[7:9])
    changed = features.clone()
    changed[-1, -1] = 3
    digests = {open_source(TensorDataset(rows)).digest() for rows in (features, changed, features[:-1])}
    assert len(digests) == 3
    empty = open_source(TensorDataset(features[:0]))
    assert (empty.num_rows, len(empty.read(0, 0))) == (0, 0)
    assert empty.digest()


def test_memory_that_a_data_set_uses_again() -> None:
    buffer = np.zeros(3)

    def fill(index: int) -> np.ndarray:
        buffer[:] = index
        return buffer

    assert open_source(Items(fill)).read(3, 6)[:, 0].tolist() == [3, 4, 5]


def test_one_thread_at_a_time_reads() -> None:
    inside = threading.Semaphore(1)

    def make(index: int) -> int:
        assert inside.acquire(blocking=False)
        torch.rand(2000).sort()
        inside.release()
        return index

    source, found = open_source(Items(make)), []
    threads = [threading.Thread(target=lambda: found.append(source.read(0, NUM_ROWS).sum())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [NUM_ROWS * (NUM_ROWS - 1) // 2] * 3


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class Unsized(Dataset):
    def __getitem__(self, index: int) -> int:
        return index


def fails(index: int) -> int:
    raise OSError(f"no file {index}")


class Unknown:
    pass


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        (Stream(), [], "data, a Stream, is an IterableDataset, of which only the next item"),
        (Unsized(), [], "data, a Unsized, is a Unsized, without __getitem__ or __len__"),
        (Items(lambda i: i, -1), [], "has no length: ValueError"),
        (Items(fails), [], "data, a Items, row 0: OSError: no file 0"),
        (
            Items(lambda i: Unknown()),
            [],
            "row 0: TypeError: a Unknown is neither a tensor, an array, a number nor text",
        ),
        (Items(lambda i: {"a": 1, "b": b"x"}), ["a"], "a bytes is neither"),
        (Items(lambda i: np.array(["a"])), [], "dtype <U1 is neither numbers nor text"),
        (Items(lambda i: np.array(b"a")), [], "dtype |S1 is neither numbers nor text"),
        (Items(np.longdouble), [], "is of dtype float128"),
        (Items(lambda i: ([1, [2]],)), [], "ValueError"),
        (Items(lambda i: ()), [], "has items without anything in them"),
        (Items(lambda i: i), ["0"], "has no column '0'; its items are one thing each"),
        (Items(lambda i: (i, i)), ["2"], "has no column '2'; it has 0, 1"),
        (Items(lambda i: torch.rand(2)), [], "row 0 differs each time it is read"),
    ],
)
def test_what_cannot_be_rows_is_said(data: Any, columns: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(data, columns)
    assert message in str(caught.value)


BAD = {20: "OSError: no file 20", 33: "is float64 (2,), where others are float32 (2,)", 34: "float32 (3,), where"}


def spoilt() -> Items:
    """Some bad ones among good ones, none of them at places that are looked at first."""

    def make(index: int) -> torch.Tensor:
        if index == 20:
            fails(index)
        return torch.full((3 if index == 34 else 2,), index, dtype=torch.float64 if index == 33 else torch.float32)

    return Items(make, 1009)


def broken() -> Items:
    raise LookupError("no such data")


class Made(Items):
    def __init__(self) -> None:
        super().__init__(lambda index: {"a": float(index), "b": index % 7}, 101)


READY = Made()
NOTHING = None


@pytest.mark.launch
def test_bad_items_are_named_and_set_aside(tmp_path: Path) -> None:
    source = open_source("test_datasets:spoilt")
    for row, message in BAD.items():
        with pytest.raises(InputError, match=rf"--data test_datasets:spoilt row {row}") as caught:
            source.read(row, row + 1)
        assert message in str(caught.value)
    command = ["--model", "zoo:Identity", "--data", "test_datasets:spoilt", "--output", "p.npy"]
    outcome = run(predict_command(*command, "--on-error", "quarantine", launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert outcome.code == 0, outcome.output
    lines = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["row"] for line in lines) == sorted(BAD)
    found = np.load(tmp_path / "p.npy")
    assert np.array_equal(np.delete(found[:, 1], list(BAD)), np.delete(np.arange(1009), list(BAD)))


def test_data_sets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in ("test_datasets:Made", "test_datasets:READY"):
        assert open_source(f"{spec}::b").read(6, 9).tolist() == [6, 0, 1]
        assert as_lists(open_source(spec, ["b"], ["a"]).read(6, 8)) == {"b": [6, 0], "a": [6.0, 7.0]}
    with pytest.raises(
        InputError, match=r"--data test_datasets:broken failed with LookupError: no such data"
    ) as caught:
        open_source("test_datasets:broken")
    assert "Traceback" in caught.value.details
    with pytest.raises(InputError, match=r"--data test_datasets:fails failed with TypeError"):
        open_source("test_datasets:fails")
    with pytest.raises(InputError, match=r"--data test_datasets:NOTHING"):
        open_source("test_datasets:NOTHING")
    with pytest.raises(ModelError, match="has no attribute 'Other'"):
        open_source("test_datasets:Other")
    with pytest.raises(UsageError, match=r"or be a folder, or package\.module:function"):
        open_source("test_datasets:Made.x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    with pytest.raises(InputError) as caught:  # a folder that is there comes first
        open_source("a:b")
    assert not isinstance(caught.value, ModelError)


class Streaming(IterableDataset):
    """Both iterable and with rows by number, as the data sets of streaming libraries are."""

    def __init__(self, length: int = 5, scale: float = 1) -> None:
        self.values = [scale * index for index in range(length)]

    def __iter__(self) -> Iterator[float]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"x": self.values[index]}


class Rows:
    """Rows by number, without a base class."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"a": index, "b": -index}


def test_methods_tell_a_data_set_not_its_class() -> None:
    assert open_source(Streaming()).read(1, 4).tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert as_lists(open_source(Rows()).read(1, 3)) == {"a": [1, 2], "b": [-1, -2]}
    table = datasets.Dataset.from_dict({"x": [1.5, 2.5]})
    assert open_source(table).read(0, 2).tolist() == [1.5, 2.5]  # type: ignore[union-attr]


def test_a_function_gets_arguments(tmp_path: Path) -> None:
    source = open_source("test_datasets:Streaming", options=ReadOptions(args={"length": 3, "scale": 0.5}))
    assert source.read(0, 3).tolist() == [0, 0.5, 1]  # type: ignore[union-attr]
    command = ["--model", "zoo:Identity", "--data", "test_datasets:Streaming", "--output", "p.npy"]
    outcome = predict_here(*command, "--data-args", '{"length": 4, "scale": 2}', folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tolist() == [0, 2, 4, 6]
    with pytest.raises(InputError, match="failed with TypeError"):
        open_source("test_datasets:Streaming", options=ReadOptions(args={"size": 3}))
    with pytest.raises(UsageError, match="is a data set itself, and takes no --data-args"):
        open_source("test_datasets:READY", options=ReadOptions(args={"size": 3}))


@pytest.mark.launch
def test_a_data_set_given_from_python(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import numpy, torch, zoo, runner\n"
        "from torch.utils.data import TensorDataset\n"
        "rows = torch.rand(101, 8, generator=torch.Generator().manual_seed(0))\n"
        "report = runner.predict(model=zoo.mlp, data=TensorDataset(rows), threads=1)\n"
        "expected = runner.predict(model=zoo.mlp, data=rows, threads=1)\n"
        "if report.predictions is not None:\n"
        "    print('equal:', numpy.array_equal(report.predictions, expected.predictions))\n"
    )
    outcome = run([*LAUNCHERS["mpirun-2"], *python(), "script.py"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("equal: True") == 1

"""Compressed text: the rows of what was compressed, whole or not at all, and nothing left behind."""

import bz2
import gzip
import itertools
import lzma
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from launch import predict_here

from runner.core.errors import InputError, OutputError
from runner.data.rows import rows_checksum
from runner.sources import decompress, decompressed, open_source

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}
NUM_ROWS = 3000
NUMBERS = np.random.default_rng(0).random(NUM_ROWS)
TEXT = {
    ".csv": "id,x\n" + "".join(f"{row},{x!r}\n" for row, x in enumerate(NUMBERS.tolist())),
    ".tsv": "id\tx\n" + "".join(f"{row}\t{x!r}\n" for row, x in enumerate(NUMBERS.tolist())),
    ".jsonl": "".join(f'{{"id": {row}, "x": {x!r}}}\n' for row, x in enumerate(NUMBERS.tolist())),
    ".ndjson": '{"id": 0}\n{"id": 1}',
    ".txt": "möglich\r\n" * NUM_ROWS,
}


@pytest.mark.parametrize("compression", COMPRESS)
def test_rows_are_those_of_the_text_in_one_member_or_several(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompress, "_READ_BYTES", 700)  # so that members end anywhere in what is read
    monkeypatch.setattr(decompress, "_MADE_BYTES", 1000)
    for suffix, text in TEXT.items():
        content, path = text.encode(), tmp_path / f"d{suffix}"
        path.write_bytes(content)
        expected = open_source(str(path))
        middle = len(content) // 3
        pieces = [content[:middle], content[middle : 2 * middle], content[2 * middle :]]
        for parts in ([content], pieces):
            stored = Path(f"{path}{compression}")
            stored.write_bytes(b"".join(map(COMPRESS[compression], parts)))
            source = open_source(str(stored))
            assert source.num_rows == expected.num_rows
            for start, stop in ((0, source.num_rows), (1, 2), (source.num_rows - 1, source.num_rows)):
                assert rows_checksum(source.read(start, stop)) == rows_checksum(expected.read(start, stop))
            stored.unlink()


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_damaged_or_truncated_file_is_rejected_by_name(compression: str, tmp_path: Path) -> None:
    path = tmp_path / f"d.csv{compression}"
    whole = COMPRESS[compression](TEXT[".csv"].encode())
    for cut in (*range(12), len(whole) // 2, *range(len(whole) - 12, len(whole))):
        for before in (b"", whole):
            if not (before and cut == 0):  # which is a complete file
                path.write_bytes(before + whole[:cut])
                with pytest.raises(InputError, match=r"d\.csv\.\w+ is truncated.*Copy it again"):
                    open_source(str(path))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 16
    for content in (flipped, whole + b"more", whole + bytes(100), TEXT[".csv"].encode()):
        path.write_bytes(content)
        if not (content is flipped and compression == ".zst"):  # pyarrow writes no checksum
            with pytest.raises(InputError, match=r"d\.csv\.\w+ is damaged, or not compressed by|is truncated"):
                open_source(str(path))


def test_many_files_are_decompressed_once_and_held_no_longer_than_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = TEXT[".jsonl"].splitlines(keepends=True)
    for index, (start, stop) in enumerate(itertools.pairwise([0, 10, 11, 1500, NUM_ROWS])):
        (tmp_path / f"part-{index}.jsonl.gz").write_bytes(gzip.compress("".join(lines[start:stop]).encode()))
    opened: list[str] = []
    original = decompress.decompressed

    def count(file: Any, beat: Any) -> Any:
        opened.append(file.path)
        return original(file, beat)

    monkeypatch.setattr(decompressed, "decompressed", count)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    source: Any = open_source(f"{tmp_path}/part-*.jsonl.gz")
    rows: Any = source.read(0, NUM_ROWS)
    assert rows["x"].tolist() == NUMBERS.tolist()
    assert rows["id"].tolist() == list(range(NUM_ROWS))
    source.digest()
    assert len(opened) == len(set(opened)) == 4
    assert os.listdir(folder) == []
    places = [contents.place for contents in source._held]
    assert [contents.place for contents in decompressed.adopt(places)] == places  # as another rank of the host does
    (tmp_path / "part-1.jsonl.gz").write_bytes(gzip.compress(b'{"id": 7, "x": 1.5}\n{"id": 8, "x": 2.5}\n'))
    assert open_source(f"{tmp_path}/part-1.jsonl.gz").num_rows == 2  # and not what was there before
    del source
    assert not decompressed.adopt(places)


def test_the_identity_is_that_of_the_compressed_file(tmp_path: Path) -> None:
    content, path = TEXT[".csv"].encode(), tmp_path / "d.csv.gz"
    digests = set()
    for level in (1, 9):
        path.write_bytes(gzip.compress(content, level, mtime=0))
        source = open_source(str(path))
        digests.add(source.digest())
        stamp = source.stamp()
        os.utime(path, ns=(0, 0))
        assert source.stamp() != stamp
    assert len(digests) == 2


def test_storage_that_is_full_or_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.txt.gz"
    path.write_bytes(gzip.compress(b"a line\n" * 1_000_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        outcome = predict_here("--model", "zoo:Identity", "--data", path, "--output", "p.npy", folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.code == 73, outcome.output
    assert f"has no room in {tempfile.gettempdir()} (TMPDIR): File too large. Set TMPDIR" in outcome.output
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match=r"cannot be written.*Set TMPDIR"):
        open_source(str(path))


def test_room_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompressed, "_LOOK_BYTES", 0)
    monkeypatch.setattr(decompressed, "_FREE_PART", 0.5)  # twice what is free must be left then
    path = tmp_path / "d.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(16 << 20)))
    with pytest.raises(OutputError, match="nearly all of its free room is taken"):
        open_source(str(path))

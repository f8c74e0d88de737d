"""A folder of sound: the values of soundfile, and what is cut off or damaged."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import soxr
from pyarrow import parquet

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.base import Noted

KINDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("FLAC", "PCM_24"),
         ("OGG", "VORBIS"), ("OGG", "OPUS")]  # fmt: skip
SUFFIXES = {"WAV": ".wav", "WAVEX": ".WAV", "RF64": ".wav", "FLAC": ".flac", "OGG": ".ogg"}


def encoded(samples: int, rate: int, kind: str, subtype: str, channels: int = 1) -> bytes:
    values = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=kind, subtype=subtype)
    return file.getvalue()


def write(folder: Path, rates: tuple[int, ...] = (16000,), channels: int = 1) -> list[str]:
    """One file of each kind, and their names in order."""
    names = []
    for index, (kind, subtype) in enumerate(KINDS):
        name = f"{'ab'[index % 2]}/{index}{SUFFIXES[kind]}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rate = rates[index % len(rates)]
        (folder / name).write_bytes(encoded(3000 + 100 * index, rate, kind, subtype, channels))
        names.append(name)
    return sorted(names)


@pytest.mark.parametrize("channels", [1, 2])
def test_values_are_those_of_soundfile(channels: int, tmp_path: Path) -> None:
    names = write(tmp_path / "d", channels=channels)
    (tmp_path / "d/notes.md").touch()
    source = open_source(f"{tmp_path}/d", ["audio", "path", "label"])
    assert isinstance(source, Noted)
    assert "1 file is left out, which is .md (1)" in source.notes[0]
    shape = RAGGED if channels == 1 else (*RAGGED, channels)
    text = RowType(RAGGED, TEXT)
    assert source.row_type == {"audio": RowType(shape, np.dtype("f4")), "path": text, "label": text}
    rows: Any = as_batch(source.read(1, len(names)))
    assert rows["path"] == names[1:]
    assert rows["label"] == [name[0] for name in names[1:]]
    for name, values in zip(names[1:], rows["audio"], strict=True):
        assert np.array_equal(values, soundfile.read(tmp_path / "d" / name, dtype="float32")[0])
    digest = source.digest()
    (tmp_path / "d" / names[0]).write_bytes(encoded(3000, 16000, "WAV", "PCM_16", channels)[:-2] + b"\1\1")
    assert open_source(f"{tmp_path}/d", ["audio", "path", "label"]).digest() != digest
    assert len(source.read(0, 0)["audio"]) == 0  # type: ignore[index]


def test_a_rate_that_is_asked_for_is_that_of_all_rows(tmp_path: Path) -> None:
    names = write(tmp_path / "d", (16000, 48000))
    source = open_source(f"{tmp_path}/d::8000")
    for name, values in zip(names, as_batch(source.read(0, len(names))), strict=True):
        own, rate = soundfile.read(tmp_path / "d" / name, dtype="float32")
        assert np.array_equal(values, soxr.resample(own, rate, 8000))
    source = open_source(f"{tmp_path}/d")
    with pytest.raises(InputError, match=r"is sampled at 16000 Hz, not 48000 Hz|at 48000 Hz, not 16000 Hz"):
        source.read(0, len(names))


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_what_is_cut_off_or_damaged_is_a_bad_row(kind: str, subtype: str, tmp_path: Path) -> None:
    whole = encoded(2000, 16000, kind, subtype)
    (tmp_path / "a.wav").write_bytes(encoded(100, 16000, "WAV", "PCM_16"))
    path = tmp_path / f"b{SUFFIXES[kind]}"
    path.write_bytes(whole)
    source = open_source(str(tmp_path))
    source.read(1, 2)
    flipped = bytearray(whole)
    flipped[len(whole) * 2 // 3] ^= 8
    has_checksums = kind in ("FLAC", "OGG")
    for content in [whole[:cut] for cut in (*range(0, len(whole), 97), len(whole) - 1)] + [flipped] * has_checksums:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"row 1 \('b\.\w+'\) (is truncated|is damaged|cannot be read as sound)"):
            source.read(1, 2)
    assert len(source.read(0, 1)) == 1


def test_what_is_not_meant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(100, 16000, "WAV", "PCM_16", 2))
    (tmp_path / "b.wav").write_bytes(encoded(100, 16000, "WAV", "PCM_16", 1))
    with pytest.raises(InputError, match=r"has 1 channels, not 2 as those before"):
        open_source(str(tmp_path)).read(0, 2)
    with pytest.raises(UsageError, match=r"::16k: the name after :: is a sampling rate"):
        open_source(f"{tmp_path}::16k")
    with pytest.raises(UsageError, match="--keep audio: sound cannot be kept"):
        open_source(str(tmp_path), ["path"], ["audio"])
    (tmp_path / "cover.jpg").touch()
    with pytest.raises(InputError, match=r"holds 1 image and 2 files of sound, such as cover\.jpg and a\.wav"):
        open_source(str(tmp_path))


def test_columns_of_sound_are_decoded_as_a_folder_is(tmp_path: Path) -> None:
    for channels in (1, 2):
        files = [encoded(2000 + 10 * row, 16000, "FLAC", "PCM_16", channels) for row in range(5)]
        rows = [{"bytes": content, "path": f"{row}.flac"} for row, content in enumerate(files)]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows.append({"bytes": None, "path": "gone.flac"})
        table = pa.table({"audio": pa.array(rows, kind), "id": range(6)})
        parquet.write_table(table, tmp_path / "d.parquet", row_group_size=2)
        source = open_source(f"{tmp_path}/d.parquet", ["audio"], ["id"])
        shape = RAGGED if channels == 1 else (*RAGGED, channels)
        assert source.row_type == {"audio": RowType(shape, np.dtype("f4")), "id": RowType((), np.dtype("i8"))}
        slow = open_source(f"{tmp_path}/d.parquet::audio@8000")
        read: Any = as_batch(source.read(1, 5))
        assert read["id"].tolist() == [1, 2, 3, 4]
        for content, values, resampled in zip(files[1:], read["audio"], as_batch(slow.read(1, 5)), strict=True):
            own = soundfile.read(io.BytesIO(content), dtype="float32")[0]
            assert np.array_equal(values, own)
            assert np.array_equal(resampled, soxr.resample(own, 16000, 8000))
        with pytest.raises(InputError, match=r"::audio: row 5 holds no sound, only the path 'gone.flac'"):
            source.read(4, 6)
    with pytest.raises(UsageError, match="after @ its sampling rate in Hz may be given, such as @16000"):
        open_source(f"{tmp_path}/d.parquet::audio@file")

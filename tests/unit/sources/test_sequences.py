"""FASTA and FASTQ: any range of records, whoever has counted them, against Biopython."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from Bio import SeqIO
from Bio.SeqIO.QualityIO import FastqGeneralIterator

from runner.core.errors import InputError
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.tables import line_index

NUM_ROWS = 500
LETTERS = np.frombuffer(b"ACGTNacgtn*-", "S1")
COLUMNS = {"fasta": ("id", "description", "sequence"), "fastq": ("id", "description", "sequence", "quality")}


def fasta(end: str) -> str:
    rng = np.random.default_rng(0)
    lines = []
    for row in range(NUM_ROWS):
        sequence = rng.choice(LETTERS, rng.integers(0, 200)).tobytes().decode()
        lines.append(f">read{row}  of {row} >not a title " if row % 3 else ">" if row % 2 else f">  spaced {row}")
        lines += [sequence[at : at + 60] for at in range(0, len(sequence), 60)] + [""] * (row % 2)
    return end.join(lines)


def fastq(end: str) -> str:
    rng = np.random.default_rng(0)
    lines = []
    for row in range(NUM_ROWS):
        length = int(rng.integers(0, 50))
        quality = "".join(map(chr, rng.integers(33, 127, length)))
        title = f"read{row} length={length}" if row % 3 else f"read{row}"
        marks = "@" if row % 2 else "+"  # a quality may begin like another line of a record
        lines += [f"@{title}", "A" * length, f"+{title}" if row % 5 == 0 else "+", (marks + quality)[:length]]
    return end.join(lines)


def expected(kind: str, path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        if kind == "fasta":
            records = SeqIO.parse(file, "fasta")
            return [{"id": r.id, "description": r.description, "sequence": str(r.seq)} for r in records]
        return [
            {"id": title.partition(" ")[0], "description": title, "sequence": sequence, "quality": quality}
            for title, sequence, quality in FastqGeneralIterator(file)
        ]


@pytest.mark.parametrize("segment", [1 << 20, 300])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_any_range_after_any_count(
    kind: str, end: str, segment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_index, "SEGMENT_BYTES", segment)
    monkeypatch.setattr(line_index, "_BLOCK_BYTES", segment * 7)
    content = fasta(end) if kind == "fasta" else fastq(end)
    for last in ("", end, end * 3):
        path = tmp_path / f"d.{kind}"
        path.write_bytes((content + last).encode())
        rows = expected(kind, path)
        assert len(rows) == NUM_ROWS
        for parts in (1, 2, 7):
            source: Any = open_source(str(path), COLUMNS[kind])
            source.use([source.scan(part, parts) for part in range(parts)])
            assert source.num_rows == NUM_ROWS
            for start, stop in ((0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (17, 200), (3, 3)):
                columns = as_batch(source.read(start, stop))
                assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == (
                    rows[start:stop]
                )


def test_sequences_alone_are_the_rows_also_of_a_compressed_file(tmp_path: Path) -> None:
    for kind, content in (("fasta", fasta("\n")), ("fastq", fastq("\n"))):
        (tmp_path / f"d.{kind}").write_text(content)
        (tmp_path / f"d.{kind}.gz").write_bytes(gzip.compress(content.encode()))
        source = open_source(f"{tmp_path}/d.{kind}.gz")
        rows = expected(kind, tmp_path / f"d.{kind}")
        assert as_batch(source.read(0, NUM_ROWS)) == [row["sequence"] for row in rows]
    (tmp_path / "empty.fa").touch()
    assert open_source(f"{tmp_path}/empty.fa").num_rows == 0


GOOD = "@a\nACGT\n+\nIIII\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.fasta", ";a comment\n>a\nAC\n", "is not FASTA: it begins with ';a comment'"),
        ("d.fa", "LOCUS 7\n", "is not FASTA: it begins with 'LOCUS 7'"),
        ("d.fa", ">a\nAC\n>b\n;comment\nAC\n", "row 1 has a comment"),
        ("d.fa", ">a\rAC\r>b\rAC\r", r"row 0 has line ends of one \\r"),
        ("d.fastq", GOOD + "@b\nACGT\n+\n", "row 1 is cut off after 3 lines"),
        ("d.fastq", GOOD + "@b\nACGT\n+\nII", "row 1 has 4 letters and 2 of quality"),
        ("d.fastq", GOOD + "@b\nAC\nGT\n+\nII\nII\n" + GOOD * 2, "cut off after 2 lines"),
        ("d.fastq", GOOD + "@b\nAC\nGT\nAC\n+\nII\nII\nII\n" + GOOD, "row 1 does not begin with @, or its third line"),
        ("d.fastq", GOOD + "@b\nACGT\n+c\nIIII\n", r"row 1 has another title after \+"),
        ("d.fq", ">a\nACGT\n>b\nACGT\n", "row 0 does not begin with @"),
        ("d.fq", GOOD + "\n" + GOOD, "cut off after 1 line"),
    ],
)
def test_what_is_damaged_or_of_another_kind_is_rejected(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)

    def read() -> None:
        source: Any = open_source(f"{tmp_path}/{name}")
        source.use([source.scan(part, 3) for part in range(3)])
        source.read(0, source.num_rows)

    with pytest.raises(InputError, match=f"{name}.*{says}"):
        read()


def test_a_bad_record_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "d.fa").write_text(">a\nAC\n>b\n;comment\nAC\n>c\nGG")
    source = open_source(f"{tmp_path}/d.fa")
    assert as_batch(source.read(0, 1)) == ["AC"]
    assert as_batch(source.read(2, 3)) == ["GG"]
    (tmp_path / "d.fq").write_text(GOOD + "@b\nACGT\n+\nIII\n" + GOOD)
    source = open_source(f"{tmp_path}/d.fq", ["quality"])
    assert as_batch(source.read(2, 3)) == ["IIII"]

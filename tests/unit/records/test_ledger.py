"""The ledger, cut off at every byte: a death in the middle of an append never costs more than that line."""

import re
from pathlib import Path

import numpy as np
import pytest

from runner.chunks.commit import Commit
from runner.core.errors import InputError
from runner.data.rows import FILE, RAGGED, TEXT, RowType, type_key
from runner.records.ledger import Ledger

FINGERPRINT = {"num_rows": 30, "chunk_size": 10, "model": "zoo:mlp"}
COMMITS = [Commit(index, index * 10, index * 10 + 10, f"xxh3:{index}", "", 0, 0.5) for index in range(3)]


def write(folder: Path, commits: list[Commit]) -> bytes:
    ledger = Ledger(folder)
    ledger.open(FINGERPRINT, {"ranks": 2})
    for commit in commits:
        ledger.commit(commit)
    ledger.close()
    return ledger.path.read_bytes()


def test_every_truncation_is_read_and_continued(tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    path = tmp_path / "ledger.jsonl"
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == 2 + len(COMMITS)  # the fingerprint, the job, the chunks
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        num_lines = sum(end <= size for end in ends)
        ledger = Ledger(tmp_path)
        assert (ledger.fingerprint is None) == (num_lines == 0)
        assert len(ledger.jobs) == (num_lines > 1)
        assert list(ledger.commits.values()) == COMMITS[: max(0, num_lines - 2)]
        write(tmp_path, COMMITS[len(ledger.commits) :])
        ledger = Ledger(tmp_path)
        assert list(ledger.commits.values()) == COMMITS
        assert ledger.is_complete
        assert len(ledger.jobs) == 1 + (num_lines > 1)


def test_the_latest_chunk_is_that_of_the_last_job(tmp_path: Path) -> None:
    write(tmp_path, COMMITS[:2])
    assert Ledger(tmp_path).latest == COMMITS[1]
    write(tmp_path, [])
    assert Ledger(tmp_path).latest is None
    write(tmp_path, [COMMITS[2], COMMITS[0]])
    assert Ledger(tmp_path).latest == COMMITS[0]
    assert Ledger(tmp_path).history == [COMMITS[:2], [], [COMMITS[2], COMMITS[0]]]


@pytest.mark.parametrize(
    "damaged", [b'{"chunk": 7', b'{"chunk": 2', b'{"chink": 1', b'{"chunk": "1"', b'"chunk": 1', b"[1, 2], {", b"\xff"]
)
def test_a_damaged_line_counts_as_never_written(damaged: bytes, tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    (tmp_path / "ledger.jsonl").write_bytes(whole.replace(b'{"chunk": 1', damaged))
    assert list(Ledger(tmp_path).commits.values()) == [COMMITS[0], COMMITS[2]]


@pytest.mark.parametrize("damaged", [b'"rank": "0"', b'"rank": 0.5', b'"began": "0"', b'"seconds": null'])
def test_so_does_a_line_whose_rank_or_times_are_no_numbers(damaged: bytes, tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    name = damaged.partition(b":")[0]
    (tmp_path / "ledger.jsonl").write_bytes(re.sub(name + rb": [\d.]+", damaged, whole))
    assert not Ledger(tmp_path).commits


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"num_rows": 30', b"\xff\xfe"])
def test_a_damaged_fingerprint_is_an_error_that_says_what_to_do(damaged: bytes, tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    (tmp_path / "ledger.jsonl").write_bytes(damaged + whole[whole.index(b"\n") :])
    with pytest.raises(InputError, match=r"first line .* is damaged\. --fresh"):
        Ledger(tmp_path)


def test_only_the_fields_that_are_given_are_compared(tmp_path: Path) -> None:
    write(tmp_path, COMMITS)
    Ledger(tmp_path).check({"num_rows": 30})
    with pytest.raises(InputError, match=r"differs in num_rows \(was 30, is 31\)\. Give"):
        Ledger(tmp_path).check({"num_rows": 31})


def test_withdrawn_commits_are_to_be_computed_again(tmp_path: Path) -> None:
    write(tmp_path, COMMITS)
    ledger = Ledger(tmp_path)
    ledger.open({}, {})
    ledger.withdraw([0, 2])
    ledger.commit(COMMITS[2])
    ledger.close()
    assert set(ledger.commits) == set(Ledger(tmp_path).commits) == {1, 2}
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"withdrawn": 1}\n{"withdrawn": [[1], {}, null]}\n')  # damaged
    assert set(Ledger(tmp_path).commits) == {1, 2}


def test_the_keys_of_types_in_records_never_change() -> None:
    """A run that is under way could not be resumed by another version."""
    floats, text = RowType((3,), np.dtype(np.float32)), RowType(RAGGED, TEXT)
    assert (floats.key, text.key, RowType(RAGGED, FILE).key) == ("float32 (3,)", "text", "a file")
    assert type_key({"a": floats, "b": RowType((-1, 2), np.dtype(np.int64))}) == "a: float32 (3,), b: int64 (-1, 2)"

"""The ledger, cut off at every byte: a death in the middle of an append never costs more than that line."""

from pathlib import Path

import pytest

from runner.errors import InputError
from runner.ledger import Commit, Ledger

FINGERPRINT = {"num_rows": 30, "model": "zoo:mlp"}
COMMITS = [Commit(index, index * 10, index * 10 + 10, f"xxh3:{index}", 0, 0.5) for index in range(3)]


def write(folder: Path, commits: list[Commit]) -> bytes:
    ledger = Ledger(folder)
    ledger.open(FINGERPRINT)
    for commit in commits:
        ledger.commit(commit)
    ledger.close()
    return ledger.path.read_bytes()


def test_every_truncation_is_read_and_continued(tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    path = tmp_path / "ledger.jsonl"
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        num_lines = sum(end <= size for end in ends)
        ledger = Ledger(tmp_path)
        assert (ledger.fingerprint is None) == (num_lines == 0)
        assert list(ledger.commits.values()) == COMMITS[: max(0, num_lines - 1)]
        assert write(tmp_path, COMMITS[max(0, num_lines - 1) :]) == whole


def test_a_damaged_line_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    whole = write(tmp_path, COMMITS)
    (tmp_path / "ledger.jsonl").write_bytes(whole.replace(b'"chunk": 1', b'"chink": 1'))
    with pytest.raises(InputError, match=r"is damaged .* --fresh"):
        Ledger(tmp_path)


def test_only_the_fields_that_are_given_are_compared(tmp_path: Path) -> None:
    write(tmp_path, COMMITS)
    Ledger(tmp_path).check({"num_rows": 30})
    with pytest.raises(InputError, match=r"differs in num_rows \(was 30, is 31\)\. Give"):
        Ledger(tmp_path).check({"num_rows": 31})

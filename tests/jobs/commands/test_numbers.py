"""Numbers in messages: counts with the right plural, durations, rates, bytes; and that no module makes its own."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from launch import ROOT, run_here

from runner.core.text import byte_size, duration, plural, quantity, rate, rough_duration, row_range

RUNNER = ROOT / "runner"
PAGES = RUNNER / "reports/pages"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", np.zeros((1, 8), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (plural(0, "row"), "0 rows"),
        (plural(1, "row"), "1 row"),
        (plural(2, "row"), "2 rows"),
        (plural(12_345, "CPU thread"), "12,345 CPU threads"),
        (plural(1, "batch", "batches"), "1 batch"),
        (plural(3, "batch", "batches"), "3 batches"),
        (row_range(0, 32), "rows 0 to 31"),
        (row_range(7, 8), "row 7"),
        (quantity(0), "0"),
        (quantity(1.234), "1.23"),
        (quantity(45.6), "45.6"),
        (quantity(99.96), "100"),
        (quantity(12_345.6), "12,346"),
        (rate(0.4), "0.4 rows/s"),
        (rate(1234), "1,234 rows/s"),
        (byte_size(0), "0 bytes"),
        (byte_size(1), "1 byte"),
        (byte_size(999), "999 bytes"),
        (byte_size(1000), "0.977 KiB"),
        (byte_size(64 << 20), "64 MiB"),
        (byte_size(1023 << 20), "0.999 GiB"),
        (byte_size(3 << 40), "3 TiB"),
        (byte_size(5 << 60), "5,120 PiB"),
        (duration(0), "0 s"),
        (duration(0.0032), "3.2 ms"),
        (duration(0.9996), "1.00 s"),
        (duration(1.234), "1.23 s"),
        (duration(9.999), "10.0 s"),
        (duration(45.6), "45.6 s"),
        (duration(99.6), "1 min 40 s"),
        (duration(725), "12 min 5 s"),
        (duration(3599.6), "1 h 0 min"),
        (duration(11_220), "3 h 7 min"),
        (duration(-1.5), "-1.50 s"),
        (duration(183_600), "2 d 3 h"),
        (rough_duration(0.4), "0 s"),
        (rough_duration(34.4), "34 s"),
        (rough_duration(725), "12 min"),
        (rough_duration(11_220), "3 h 7 min"),
        (rough_duration(183_600), "2 d 3 h"),
    ],
)
def test_numbers(words: str, expected: str) -> None:
    assert words == expected


def test_no_message_makes_its_own_plural_or_units() -> None:
    units = re.compile(r"\w\(s\)|\b(kB|MB|GB|TB)\b")
    wrong = []
    for path in RUNNER.rglob("*.py"):
        strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        wrong += [text for text in strings if isinstance(text, str) and units.search(text)]
        made = re.findall(r".*(?:'s' \* |\"s\" \* |\"1 \w+\" if ).*", path.read_text())
        wrong += [line for line in made if PAGES not in path.parents and "part of the fingerprint" not in line]
    assert not wrong


def test_one_row_is_not_one_rows(folder: Path) -> None:
    """Everything that is said of a job with one row, one chunk, one rank."""
    job = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--batch-size", "1", "--threads", "1"]
    report = ["--report", "p.npy.run/report.json"]
    words = [
        ("plan", *job),
        ("predict", *job, "-vv"),
        ("explain", "p.npy"),
        ("verify", "p.npy"),
        ("plan", *job, *report, "--overwrite"),
        ("inspect", "zoo:mlp"),
        ("doctor", *job[:4], "--threads", "1"),
    ]
    told = ""
    for command in words:
        outcome = run_here(*command, folder=folder)
        assert outcome.code == 0, outcome.output
        told += outcome.output
    assert " 1 row " in told
    assert "1 rank" in told
    assert "1 chunk " in told
    assert re.findall(r"(?<![\d,.-])1 (?!is\b|has\b|s\b|ms\b)[\w-]*s\b", told) == []

"""A short run of scripts/soak.py, which kills jobs at random moments."""

import re
from pathlib import Path

import pytest
from launch import ROOT, run, script


@pytest.mark.timeout(300)
def test_a_few_random_kills(tmp_path: Path) -> None:
    outcome = run(script(ROOT / "scripts/soak.py", "--kills", "3", "--seed", "3"), tmp_path, timeout=280)
    assert outcome.code == 0, outcome.output
    assert re.search(r"soak: seed 3: 3 kills \(.*\); \d+ outputs became whole", outcome.output)

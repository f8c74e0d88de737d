"""Every piece of code and every command in docs/ runs, page by page, from top to bottom in one folder."""

from pathlib import Path

import numpy as np
import pytest
from pages import DOCS, ELSEWHERE, FIRST_JOB, LANGUAGES, MODEL_FORMATS, ROOT, blocks, is_elsewhere, run_pages

ALONE = [page for page in DOCS if page not in (*FIRST_JOB, *MODEL_FORMATS)]
ALL = ("README.md", *DOCS)


@pytest.mark.parametrize("page", [page for page in ALONE if any(block.language == "bash" for block in blocks(page))])
def test_what_a_page_shows_works(page: str, tmp_path: Path) -> None:
    assert run_pages([page], tmp_path)


@pytest.mark.timeout(200)
def test_all_formats_and_splits_of_a_model_give_the_same(tmp_path: Path) -> None:
    run_pages(MODEL_FORMATS, tmp_path)
    kinds = ("pth", "pt", "pt2", "onnx", "stages", "split")
    first, *others = (np.load(tmp_path / f"stack-{kind}.npy") for kind in kinds)
    assert first.shape == (100, 64)
    assert all(np.allclose(first, other, atol=1e-6) for other in others)


@pytest.mark.parametrize("page", ALL)
def test_every_block_has_a_language_and_runs_unless_it_is_text(page: str) -> None:
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)
    assert "\n    " not in "\n".join((ROOT / page).read_text().split("```")[::2]), "an indented block does not run"


def test_what_runs_elsewhere_is_shown_and_runs_there() -> None:
    commands = [
        command for page in ALL for block in blocks(page) if block.language == "bash" for command in block.commands
    ]
    unused = [start for start in ELSEWHERE if not any(command.startswith(start) for command in commands)]
    assert not unused
    assert sum(map(is_elsewhere, commands)) < len(commands)
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("scripts/test.sh")
    assert 'SCRIPTS / "slurm.sbatch"' in (ROOT / "tests/cluster/test_slurm.py").read_text()
    assert "run_until_done.sh" in (ROOT / "tests/cluster/test_lost_hosts.py").read_text()


def test_every_example_has_weights() -> None:
    """Without them a model has random values, and no two jobs agree."""
    pages = [ROOT / page for page in ALL]
    pages += [path for folder in ("scripts", "scripts/batch", "hostfiles") for path in (ROOT / folder).iterdir()]
    texts = {path: path.read_text().replace("\\\n#", "") for path in pages if path.is_file()}
    commands = [(path, line) for path, text in texts.items() for line in text.splitlines() if "my_model:build" in line]
    assert len(commands) > 10
    assert [command for command in commands if "weights" not in command[1] and command[0].suffix != ".yaml"] == []

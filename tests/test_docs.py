"""Every piece of code and every command in docs/ runs, page by page, from top to bottom in one folder."""

import os
import re
from pathlib import Path

import pytest
from launch import environment, run

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Of each block of code: its language, the text, and the line before it."""
    text = (ROOT / "docs" / page).read_text()
    return [(match[1], match[2], text[: match.start()].rstrip().rpartition("\n")[2]) for match in _BLOCK.finditer(text)]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page: str, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(environment()["PATH"].partition(os.pathsep)[0]).parent)
    for language, text, before in blocks(page):
        if language in ("python", "json"):  # goes to the file that the line before it names
            names = re.findall(r"`([\w./-]+\.(?:py|json|jsonl))`", before)
            assert names, f"{page}: no file is named before:\n{text}"
            (tmp_path / names[-1]).write_text(text)
        elif language == "bash":
            outcome = run(["bash", "-ec", f"source .venv/bin/activate\n{text}"], tmp_path)
            assert outcome.code == 0, f"{text}\n{outcome.output}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (ROOT / "docs" / target).exists(), target

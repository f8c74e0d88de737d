"""The pages of the documentation: their blocks of code, which run in one folder, from top to bottom."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch import ROOT, commands, environment, run

DOCS = tuple(sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
# pages that go on with the files of the one before
FIRST_JOB = (
    "README.md",
    "docs/getting-started.md",
    "docs/resume-and-failures.md",
    "docs/monitoring.md",
    "docs/clusters.md",
    "docs/python-api.md",
)
MODEL_FORMATS = ("docs/models.md", "docs/large-models.md")

LANGUAGES = ("python", "json", "bash", "text")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

# commands that other files run
ELSEWHERE = {
    "scripts/demo.sh": "tests/jobs/docs/test_readme.py",
    "scripts/test.sh": ".ci/run",
    "sbatch scripts/batch/slurm.sbatch": "tests/cluster/test_slurm.py",
    "scripts/run_until_done.sh": "tests/cluster/test_lost_hosts.py",
}


@dataclass(frozen=True)
class Block:
    """A block of code, with the paragraph before it."""

    language: str
    text: str
    before: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [re.sub(r" +", " ", line.partition("  #")[0]).strip() for line in lines]


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    text = (ROOT / page).read_text()
    for match in _BLOCK.finditer(text):
        yield Block(match[1], match[2], text[: match.start()].rstrip().rpartition("\n\n")[2])


def is_elsewhere(command: str) -> bool:
    """Whether another file runs the command."""
    return command.startswith(tuple(ELSEWHERE))


def run_pages(pages: Sequence[str], folder: Path, threads: str | None = "1") -> dict[str, str]:
    """Write the files and run the commands of pages, one after another; a command of two pages runs once.

    Args:
        pages: paths from the top of the repository.
        folder: where they run.
        threads: `OMP_NUM_THREADS`; None for none, as a user has it.

    Returns:
        The output of each command.
    """
    env = environment()
    (folder / ".venv").symlink_to(Path(env["PATH"].partition(os.pathsep)[0]).parent)
    if threads is None:
        del env["OMP_NUM_THREADS"]
    outputs: dict[str, str] = {}
    for block in (block for page in pages for block in blocks(page)):
        if block.language in ("python", "json"):  # goes to the file that the paragraph before it names
            names = re.findall(r"`([\w./-]+\.(?:py|json|jsonl))`", block.before)
            assert names, f"no file is named before:\n{block.text}"
            (folder / names[-1]).write_text(block.text)
        elif block.language == "bash":
            for command in block.commands:
                if command not in outputs and not is_elsewhere(command):
                    outcome = run(
                        ["bash", "-ec", f"source .venv/bin/activate\nPATH={commands()}:$PATH\n{command}"],
                        folder,
                        env=env,
                    )
                    assert outcome.code == 0, f"{command}\n{outcome.output}"
                    outputs[command] = outcome.output
    return outputs

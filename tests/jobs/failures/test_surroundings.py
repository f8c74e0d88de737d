"""A command in odd surroundings: closed streams, a terminal or log that takes nothing, a folder that is gone."""

from pathlib import Path

import numpy as np
import pytest
from launch import Outcome, environment, predict_command, python, run

OPTIONS = ("--model", "zoo:Identity", "--data", "d.npy", "--output", "p.npy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", np.ones((9, 3), "f4"))
    return tmp_path


def in_shell(script: str, folder: Path, *words: str | Path) -> Outcome:
    """Run a command, which the script calls "$@"."""
    return run(["sh", "-c", script, "sh", *words], folder, env=environment())


@pytest.mark.cold  # whose Python finds them closed
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, folder: Path) -> None:
    """No file of the job gets their numbers, to which libraries print."""
    assert in_shell(f'"$@" {closed}', folder, *predict_command(*OPTIONS)).code == 0
    assert (folder / "p.npy").read_bytes() == (folder / "d.npy").read_bytes()


def test_a_log_on_a_full_disk(folder: Path) -> None:
    """A job is not undone by it; a result that is printed is lost."""
    assert in_shell('"$@" >/dev/full 2>&1', folder, *predict_command(*OPTIONS)).code == 0
    assert (folder / "p.npy").read_bytes() == (folder / "d.npy").read_bytes()
    outcome = in_shell('"$@" >/dev/full', folder, *python(), "-m", "runner", "hosts", "a")
    assert (outcome.code, outcome.output) == (
        73,
        "runner: error: the result cannot be printed: No space left on device\n",
    )


@pytest.mark.cold  # which finds no folder to start in
def test_a_folder_that_is_gone(folder: Path) -> None:
    command = predict_command(*OPTIONS)
    outcome = in_shell('mkdir gone && cd gone && rmdir ../gone && "$@"', folder, *command)
    assert outcome.code == 64
    assert outcome.output.count("runner: error: the current folder is gone (No such file or directory)") == 1


@pytest.mark.cold
def test_no_folder_for_temporary_files(folder: Path) -> None:
    """PyTorch needs one when it is imported; here no file may grow."""
    outcome = in_shell('(ulimit -f 0; "$@" 2>&1; echo $?) | cat', folder, *predict_command(*OPTIONS))
    assert (
        "runner: error: PyTorch does not load: FileNotFoundError: [Errno 2] No usable temporary dir" in outcome.output
    )
    assert outcome.output.endswith("\n64\n")

"""What ranks say: nothing that nobody asked for; with -v each stage, with -vv each chunk and what Horovod says."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, environment, predict_command, run

import runner
from runner.host.launch import set_log_defaults

NUM_ROWS = 1797
JOB = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--overwrite"]
STAGES = ["connected: ", "data: ", "model: ", "canary: ", "output: ", "computed ", "finished: "]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", np.random.default_rng(0).normal(size=(NUM_ROWS, 8)).astype(np.float32))
    return tmp_path


def said(folder: Path, launcher: str, *more: str, **env: str) -> list[str]:
    """The lines on stdout and stderr, without what horovodrun puts before each."""
    outcome = run(predict_command(*JOB, *more, launcher=LAUNCHERS[launcher]), folder, env=environment(**env))
    assert outcome.code == 0, outcome.output
    return [re.sub(r"^\[\d+,\d+\]<std(out|err)>: ?", "", line) for line in outcome.output.splitlines()]


@pytest.mark.parametrize("launcher", ["mpirun-2", "horovodrun-2"])
def test_two_lines_and_no_more(launcher: str, folder: Path) -> None:
    """Neither Horovod nor MPI says anything."""
    lines = said(folder, launcher)
    assert len(lines) == 2, lines
    assert re.fullmatch(r"runner: 1,797 rows on 2 ranks, 1 host, 1 CPU thread per rank", lines[0])
    assert lines[1].startswith("runner: 1,797 rows -> p.npy (complete): ")


def stages_of(lines: list[str], who: str) -> list[str]:
    prefix = f"runner: {who} on "
    return [line.partition(": ")[2].partition(": ")[2] for line in lines if line.startswith(prefix)]


def test_each_stage_of_each_rank(folder: Path) -> None:
    lines = said(folder, "mpirun-2", "-v")
    rows = 0
    for rank in range(2):
        stages = stages_of(lines, f"rank {rank} of 2")
        assert len(stages) == len(STAGES), stages
        for stage, begin in zip(stages, STAGES, strict=True):
            assert stage.startswith(begin)
            assert re.search(r", [\d.]+ m?s$", stage)
        assert "connected: launcher mpirun, Open MPI" in stages[0]
        assert stages[1].startswith("data: 1,797 rows; on cpu with 1 CPU thread, ")
        assert re.search(r"model: [\d.]+ (bytes|KiB) sent in [\d.]+ m?s, [\d,.]+ [KM]iB/s", stages[2])
        assert re.match(r"canary: equal; the model is called with input float32 \(\d, 8\), ", stages[3])
        assert stages[4].startswith("output: 0 of 57 chunks committed already, ")
        rows += int(stages[5].split()[1].replace(",", ""))
    assert rows == NUM_ROWS
    assert len(lines) == 2 * len(STAGES) + 2, "what Horovod says is for -vv"


def test_each_chunk_and_round(folder: Path) -> None:
    lines = said(folder, "mpirun-2", "-vv", "--stall-timeout", "60")
    chunks = [re.search(r"chunk (\d+): rows (\d+)\.\.(\d+), [\d.]+ m?s$", line) for line in lines]
    found = sorted((int(c[1]), int(c[2]), int(c[3])) for c in chunks if c)
    assert found == [(i, 32 * i, min(32 * i + 32, NUM_ROWS)) for i in range(57)]
    assert any(re.search(r"^runner: rank 1 of 2 on \S+: a round of predictions, [\d.]+ m?s$", line) for line in lines)
    assert any("Horovod initialized" in line for line in lines)  # its info log

    quiet = said(folder, "mpirun-2", "-vv", HOROVOD_LOG_LEVEL="warning")
    assert not any("Horovod initialized" in line for line in quiet)  # what the user has said counts


def test_what_the_user_has_set_counts() -> None:
    environ = {"NCCL_DEBUG": "WARN"}
    set_log_defaults(2, environ)
    assert environ == {"NCCL_DEBUG": "WARN", "HOROVOD_LOG_LEVEL": "info"}
    set_log_defaults(1, untouched := {})
    assert untouched == {}


def test_a_program_configures_the_logger(
    folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what a job has added is gone after it."""
    logger = logging.getLogger("runner")
    job = {"model": "zoo:mlp", "data": np.load(folder / "d.npy"), "threads": 1}
    runner.predict(**job)
    assert caplog.messages == []
    with caplog.at_level(logging.DEBUG, "runner"):
        runner.predict(**job, verbose=1)
    assert len([text for text in caplog.messages if ": chunk " in text]) == 57
    assert all(text.startswith("rank 0 of 1 on ") for text in caplog.messages)
    assert "rank 0 of 1" not in capsys.readouterr().err, "the program's own handler has said it"
    assert (logger.handlers, logger.filters, logger.level) == ([], [], logging.NOTSET)

"""What a real bash completes with the script that `hvd-runner --print-completion bash` prints."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from launch import BIN, run

from runner.cli.main import main
from runner.config.options import Config

# the function that the script has registered for the program, called as bash does when TAB is pressed
PRESS_TAB = """
source completion.bash
function=$(complete -p hvd-runner | sed 's/.*-F \\([^ ]*\\).*/\\1/')
while IFS= read -r line; do
    IFS=' ' read -ra COMP_WORDS <<<"${line%|}"
    [[ $line != *' |' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    $function hvd-runner "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    outcome = run([BIN / "hvd-runner", "--print-completion", "bash"], folder)
    assert outcome.code == 0, outcome.output
    (folder / "completion.bash").write_text(outcome.output)
    for name in ("data.npy", "data.csv", "deep"):
        (folder / name).touch()
    return folder


def complete(folder: Path, *lines: str) -> list[list[str]]:
    """What is offered for each of these lines, at its end, where `|` stands for the cursor after a space."""
    typed = "\n".join(lines) + "\n"
    command = ["bash", "--norc", "--noprofile", "-c", PRESS_TAB]
    done = subprocess.run(command, cwd=folder, input=typed, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def test_commands_options_values_and_files(folder: Path) -> None:
    expected = {
        "hvd-runner ver": ["verify"],
        "hvd-runner predict --collect |": ["allgather", "alltoall", "direct", "shards"],
        "hvd-runner predict --collect al": ["allgather", "alltoall"],
        "hvd-runner predict --trace --collect direct --dtype b": ["bfloat16"],
        "hvd-runner predict --model-p": ["--model-parallel"],
        "hvd-runner predict --data data.": ["data.csv", "data.npy"],
        "hvd-runner predict --metrics d": ["data.csv", "data.npy", "deep"],
        "hvd-runner verify de": ["deep"],
        "hvd-runner submit --launcher s": ["slurm"],
        "hvd-runner submit --launcher slurm --model-args {} --stateful k": ["keep"],
        "hvd-runner plan --schedule |": ["static", "dynamic"],
        "hvd-runner doctor --data data.c": ["data.csv"],
    }
    assert [sorted(words) for words in complete(folder, *expected)] == [sorted(words) for words in expected.values()]
    (commands,) = complete(folder, "hvd-runner |")
    assert {"predict", "plan", "submit", "doctor", "hosts"} <= set(commands)


def test_every_option_with_few_values_offers_them(folder: Path) -> None:
    options = {field.name.replace("_", "-"): field.metadata["choices"] for field in dataclasses.fields(Config)}
    options = {name: choices for name, choices in options.items() if choices}
    offered = complete(folder, *(f"hvd-runner predict --{name} |" for name in options))
    assert offered == list(map(list, options.values()))
    assert len(options) > 8


def test_every_option_of_a_path_offers_files(folder: Path) -> None:
    paths = [f"--{field.name}" for field in dataclasses.fields(Config) if "PATH" in field.metadata["metavar"]]
    assert {"--model", "--weights", "--data", "--output", "--metrics"} <= set(paths)
    offered = complete(folder, *(f"hvd-runner predict {option} dee" for option in [*paths, "--config"]))
    assert offered == [["deep"]] * (len(paths) + 1)


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 64
    message = "--print-completion needs shtab: pip install 'horovod-inference-runner[completion]'"
    assert message in capsys.readouterr().err

"""Commands as they were typed, not as a launcher has filled them up."""

import pytest

from runner.host.command_line import shown_command

JOB = "python -m runner predict --model-args '{\"a\": 1}' --output p.npy"
FILLED_UP = " ".join(f"-x NAME{n}" for n in range(9))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (JOB, JOB),
        (f"prterun -np 2 -x PATH -x HOME {JOB}", f"mpirun -np 2 -x PATH -x HOME {JOB}"),
        (f"prterun -np 2 {FILLED_UP} -x 'KEY=***' {JOB}", f"mpirun -np 2 {JOB}"),
        ("mpirun 'no end", "mpirun 'no end"),
        ("", ""),
    ],
)
def test_commands_are_shown_about_as_they_were_typed(command: str, shown: str) -> None:
    assert shown_command(command) == shown

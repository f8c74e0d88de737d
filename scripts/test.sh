#!/usr/bin/env bash
# Everything that is checked: lint, types, layers, and the whole test suite. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --extras dev
# shellcheck source=/dev/null
source .venv/bin/activate

ruff check .
ruff format --check .
mypy
lint-imports --no-logo
shellcheck --external-sources scripts/*.sh scripts/batch/*.sbatch scripts/batch/*.sh tests/cluster/*.sh .ci/run
# three at a time: a test waits for processes of its own most of the time
python -m pytest --numprocesses 3 --dist loadfile "$@"

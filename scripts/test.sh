#!/usr/bin/env bash
# Everything that is checked: lint, types, layers, and the whole test suite. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --extras demo,dev # both named, or the demo's test would install beside running tests
# shellcheck source=/dev/null
source .venv/bin/activate

ruff check .
ruff format --check .
mypy & # most of a minute on one core, so beside the tests
types=$!
lint-imports --no-logo
shellcheck --external-sources scripts/*.sh scripts/batch/*.sbatch scripts/batch/*.sh tests/cluster/*.sh .ci/run
# or each of many hundred ranks would compile all modules anew
unset PYTHONDONTWRITEBYTECODE
# three at a time: a test waits for processes of its own most of the time; in the order of tests/conftest.py
python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder "$@"
wait "$types" || { echo "mypy has found errors: see above" >&2 && exit 1; }

#!/usr/bin/env bash
# Everything that is checked: lint, types, layers, and the whole test suite. Arguments go to pytest.
# With --fast only lint, layers and the tests of the parts, which start no ranks: less than a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --extras demo,dev # both named, or the demo's test would install beside running tests
# shellcheck source=/dev/null
source .venv/bin/activate
# or each of many hundred ranks would compile all modules anew
unset PYTHONDONTWRITEBYTECODE

ruff check .
ruff format --check .
lint-imports --no-logo
if [[ ${1-} == --fast ]]; then
    exec python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not launch" tests/unit "${@:2}"
fi
mypy & # most of a minute on one core, so beside the tests
types=$!
shellcheck --external-sources scripts/*.sh scripts/batch/*.sbatch scripts/batch/*.sh tests/cluster/*.sh .ci/run
# three at a time: a test waits for processes of its own most of the time
python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder "$@"
wait "$types" || { echo "mypy has found errors: see above" >&2 && exit 1; }

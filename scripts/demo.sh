#!/usr/bin/env bash
# The main job from a bare machine: sets up, trains a small digits model, predicts the held-out images on two ranks.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --extras demo
# shellcheck source=/dev/null
source .venv/bin/activate

# Open MPI refuses to run as root, as in containers, unless told twice
if [[ $(id -u) == 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

if [[ -e demo/weights.safetensors ]]; then
    echo "the model of the last demo is used again (remove demo/ to train it anew)"
else
    python scripts/demo_digits.py prepare demo
fi

command=(horovodrun -np 2 hvd-runner predict
    --model scripts.demo_digits:cnn --weights demo/weights.safetensors
    --data demo/images.npy --output demo/predictions.npy --postprocess argmax --overwrite)
printf '\n$ %s\n' "${command[*]}"
"${command[@]}"

echo
python scripts/demo_digits.py score demo
echo "predictions: demo/predictions.npy    report: demo/predictions.npy.run/report.html"
echo "to run it yourself:  source .venv/bin/activate  and the command above, or your own model and data: see README.md"

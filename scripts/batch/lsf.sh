#!/usr/bin/env bash
# One prediction job on IBM Spectrum LSF. From the folder that holds .venv and your model:
#
#   scripts/batch/lsf.sh \
#       --model my_model:build --weights weights.safetensors --data rows.npy --output predictions.npy
#
# bsub reads its options from a script on stdin alone (bsub < lsf.sh), and such a script has no arguments. So outside a
# job this one submits itself, and its arguments, those of `hvd-runner predict`, travel in a variable. Lines
# marked SITE depend on the cluster.

#BSUB -J predict
#BSUB -o predict-%J.log
# SITE: how long, hours:minutes; time_limit below goes with it.
#BSUB -W 01:00
# SITE: 4 ranks, 2 on each host.
#BSUB -n 4
#BSUB -R "span[ptile=2]"
# SITE: remove one # to use a line. GPUs are those of a host: as many as ranks there.
##BSUB -q NAME
##BSUB -P NAME
##BSUB -gpu "num=2"

set -euo pipefail

time_limit=3480 # SITE: -W in seconds, less two minutes, in which what is begun is finished

if [[ -z ${LSB_JOBID:-} ]]; then
    RUNNER_ARGUMENTS=$(printf '%s\0' "$@" | base64 --wrap=0)
    export RUNNER_ARGUMENTS
    exec bsub <"$0" # takes the environment along
fi
arguments=("$@") # in an interactive job
if [[ -n ${RUNNER_ARGUMENTS:-} ]]; then mapfile -d '' -t arguments < <(base64 --decode <<<"$RUNNER_ARGUMENTS"); fi
cd "$LS_SUBCWD"

# SITE: the modules that were loaded when scripts/setup.sh built Horovod, its MPI above all.
# module load openmpi

# The virtual environment: .venv in the folder of the submission, or what the variable RUNNER_VENV says.
# shellcheck source=/dev/null
source "${RUNNER_VENV:-$PWD/.venv}/bin/activate"

# An mpirun that was built without LSF needs the hosts, and reaches them by ssh; any other takes them, too.
hostfile=$(mktemp)
hvd-runner hosts >"$hostfile"

# --bind-to none: otherwise mpirun binds a rank, with its threads and those of Horovod, to one core.
exec mpirun --bind-to none --hostfile "$hostfile" \
    "$(command -v hvd-runner)" predict --time-limit "$time_limit" "${arguments[@]}"

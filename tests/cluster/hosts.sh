#!/usr/bin/env bash
# hosts.sh DIR NODES [COMMAND...] : a small cluster on this machine for as long as stdin stays open (Ctrl-D ends it).
#
# Hosts "head" and node1, node2, ...: each has its own network, host name, processes, IPC, /dev/shm, /run and sshd.
# All other folders are shared, as over NFS. Nothing outside the namespaces is changed, and all of it dies with this
# script, however that ends. COMMAND is run when the hosts are there; then "ready" is printed.
# Exit code 77: it cannot be done here; stderr says why.
set -euo pipefail

dir=$1 nodes=$2
shift 2
export PATH=$PATH:/usr/sbin
here=$(cd "$(dirname "$0")" && pwd)
names=(head)
for ((i = 1; i <= nodes; i++)); do names+=("node$i"); done

skip() {
    echo "$*" >&2
    exit 77
}

await() { # FILE WHAT
    for _ in {1..6000}; do
        if [[ -e $1 ]]; then return; fi
        sleep 0.01
    done
    echo "$2 did not come up; see $dir" >&2
    exit 1
}

((EUID == 0)) || skip "pretend hosts need root"
for tool in ip:iproute2 ssh:openssh-client sshd:openssh-server setpriv:util-linux nsenter:util-linux; do
    command -v "${tool%:*}" >/dev/null || skip "pretend hosts need ${tool%:*} (Debian: ${tool#*:})"
done
namespaces=(--net --uts --mount --ipc --pid --fork --kill-child --mount-proc)
unshare "${namespaces[@]}" sh -c 'mount -t tmpfs tmpfs /run && ip link add br0 type bridge && ip link add type veth' \
    2>/dev/null || skip "pretend hosts need leave to make namespaces, mounts, a bridge and veth links"

# One key for all, as a shared ~/.ssh would have, and no question asked about any host.
mkdir -p "$dir"
ssh-keygen -q -t ed25519 -N '' -f "$dir/id"
echo "127.0.0.1 localhost" >"$dir/hosts"
for i in "${!names[@]}"; do
    name=${names[i]}
    echo "10.231.0.$((10 + i)) $name" >>"$dir/hosts"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/$name.key"
    echo "$name $(<"$dir/$name.key.pub")" >>"$dir/known_hosts"
done
cat >"$dir/ssh_config" <<CONFIG
IdentityFile $dir/id
IdentitiesOnly yes
UserKnownHostsFile $dir/known_hosts
BatchMode yes
ConnectTimeout 20
LogLevel ERROR
CONFIG
# TMPDIR private to the host: Open MPI 5 names its folder there by process id alone, and those repeat on each host.
cat >"$dir/sshd_config" <<CONFIG
AuthorizedKeysFile $dir/id.pub
StrictModes no
UsePAM no
UseDNS no
MaxStartups 100
SetEnv TMPDIR=/run/tmp ${LD_PRELOAD:+LD_PRELOAD=$LD_PRELOAD} OMP_NUM_THREADS=${OMP_NUM_THREADS-}
CONFIG

# With a host's first process all others of it end. Where this script is killed, --pdeathsig and --kill-child do it.
trap 'pkill -KILL --parent "$(jobs -p | paste -sd,)" || true; wait' EXIT
for i in "${!names[@]}"; do
    name=${names[i]}
    setpriv --pdeathsig KILL unshare "${namespaces[@]}" \
        bash "$here/host_init.sh" "$dir" "$name" "10.231.0.$((10 + i))" </dev/null >"$dir/$name.log" 2>&1 &
    echo $! >"$dir/$name.pid"
done
switch=(nsenter --target "$(<"$dir/head.pid")" --net ip link)
await "$dir/head.born" head
for name in "${names[@]:1}"; do
    await "$dir/$name.born" "$name"
    "${switch[@]}" add "$name" type veth peer name eth0 netns "$(<"$dir/$name.pid")"
    "${switch[@]}" set "$name" master eth0 up
done
for name in "${names[@]}"; do await "$dir/$name.ready" "$name"; done

if (($#)); then "$@" >&2; fi
echo ready
cat >/dev/null

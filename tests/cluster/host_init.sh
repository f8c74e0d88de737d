#!/usr/bin/env bash
# host_init.sh DIR NAME ADDRESS : the first process of one of hosts.sh's hosts, inside its namespaces.
set -euo pipefail

dir=$1 name=$2 address=$3
hostname "$name"
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/lock
mkdir -m 1777 /run/tmp
mount --bind "$dir/hosts" /etc/hosts
mount --bind "$dir/ssh_config" /etc/ssh/ssh_config

ip link set lo up
# The network's switch; hosts.sh plugs the nodes in. With an address of its own: else it has that of one of its plugs, and
# changes it when that host dies, whereupon the others cannot reach head for half a minute.
if [[ $name == head ]]; then ip link add eth0 address 02:00:00:00:00:01 type bridge; fi
: >"$dir/$name.born"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
ip address add "$address/24" dev eth0
ip link set eth0 up

# As process 1 it also reaps orphans. It writes its pid file once it listens.
exec "$(command -v sshd)" -D -f "$dir/sshd_config" -h "$dir/$name.key" -E "$dir/$name.sshd.log" -o PidFile="$dir/$name.ready"

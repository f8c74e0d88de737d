#!/usr/bin/env bash
# slurm.sh DIR NODES : start a real Slurm on hosts.sh's hosts: slurmctld and munged on head, a slurmd on each node, which
# has eight CPUs and two GPUs, whatever this machine has.
# For use as hosts.sh's COMMAND. Its configuration is DIR/slurm/slurm.conf, to be given as SLURM_CONF.
# Exit code 77: it cannot be done here; stderr says why.
set -euo pipefail

dir=$1 nodes=$2
on_host=("$(dirname "$0")/on_host.sh" "$dir")
slurm=$dir/slurm
export SLURM_CONF=$slurm/slurm.conf

skip() {
    echo "$*" >&2
    exit 77
}

for tool in munged:munge slurmctld:slurm-wlm slurmd:slurm-wlm srun:slurm-wlm; do
    command -v "${tool%:*}" >/dev/null || skip "a pretend Slurm needs ${tool%:*} (Debian: ${tool#*:})"
done

mkdir -p "$slurm"/{state,spool}
gpus=2
for ((i = 0; i < gpus; i++)); do # a GPU must be a device: here that of /dev/null
    mknod "$slurm/nvidia$i" c 1 3 || skip "a pretend Slurm needs leave to make device files"
done
cat >"$SLURM_CONF" <<CONFIG
ClusterName=pretend
SlurmctldHost=head
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a job that is requeued waits for as long, 2 minutes by default
AuthInfo=socket=$slurm/munge.sock,cred_expire=5
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool/%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/%n.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# start jobs at once
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=5
# believe CPUs= below, whatever this machine has
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node[1-$nodes] CPUs=8 RealMemory=2000 Gres=gpu:$gpus State=UNKNOWN
PartitionName=pretend Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
CONFIG
echo "NodeName=node[1-$nodes] Name=gpu File=$slurm/nvidia[0-$((gpus - 1))]" >"$slurm/gres.conf"
# pmix names its folder without the node, so keep it in one that is private to the node
echo "PMIxCliTmpDirBase=/run/tmp" >"$slurm/mpi.conf"
head -c 1024 /dev/urandom >"$slurm/munge.key"
chmod 600 "$slurm/munge.key"

# --force: munged does not like the folder's mode
"${on_host[@]}" head munged --force --key-file="$slurm/munge.key" --socket="$slurm/munge.sock" \
    --pid-file="$slurm/munged.pid" --log-file="$slurm/munged.log" --seed-file="$slurm/munged.seed"
"${on_host[@]}" head slurmctld
for ((i = 1; i <= nodes; i++)); do
    mkdir "$slurm/spool/node$i"
    "${on_host[@]}" "node$i" slurmd -N "node$i"
done
for _ in {1..1200}; do
    idle=$("${on_host[@]}" head sinfo --noheader --Node --states=idle --format=%N) || idle=
    if (($(wc -w <<<"$idle") == nodes)); then break; fi
    sleep 0.05
done
if (($(wc -w <<<"$idle") != nodes)); then
    tail -n 5 "$slurm"/*.log >&2
    exit 1
fi
if ! said=$("${on_host[@]}" head srun --mpi=pmix true 2>&1); then
    if [[ $said == *"can not load PMIx library"* ]]; then
        skip "a pretend Slurm needs the PMIx library where its plugin looks for it (Debian: libpmix-dev)"
    fi
    echo "$said" >&2
    exit 1
fi

#!/bin/bash
# Runs a small study on a real Slurm: one node on the loopback, set up in a temporary folder and taken down at the end.
#
#     apt-get install slurm-wlm munge && pip install 'xtl[slurm]'
#     sudo tests/slurm.sh
#
# Needs root, because slurmd does; no systemd, no database, nothing outside the temporary folder. Prints "slurm: passed" at the end.
set -euo pipefail
dir=$(mktemp -d /tmp/xtl-slurm.XXXXXX)
chmod 755 "$dir"
export SLURM_CONF=$dir/slurm.conf PATH=/usr/sbin:/sbin:$PATH
started=()
finish() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -z "${KEEP:-}" ]; then rm -rf "$dir"; fi
}
trap finish EXIT

dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 status=none
chmod 600 "$dir/munge.key"
munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munged.seed" & started+=($!)

host=$(hostname -s)
cat > "$SLURM_CONF" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$dir/state" "$dir/spool"
for i in $(seq 20); do [ -S "$dir/munge.socket" ] && break; sleep 0.5; done
slurmctld -D & started+=($!)
slurmd -D & started+=($!)
for i in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 0.5; done
sinfo

cat > "$dir/jobs.yaml" <<YAML
queue: all
cores: 1
processes: 1
memory: 1GB
job_directives_skip: ["--mem"]
walltime: "00:20:00"
interface: lo
local_directory: $dir/dask
log_directory: $dir/logs
n_workers: 2
YAML
study=(mini --targets tatoeba --languages qab,qcc --budget 2e9 --n-tasks 0,2 --out "$dir/out")
xtl run "${study[@]}" --slurm "$dir/jobs.yaml"
xtl status "$dir/out"
xtl status "$dir/out" | grep -q '4 done, 0 running, 0 failed, 0 waiting'
for i in $(seq 40); do [ -z "$(squeue -h)" ] && break; sleep 0.5; done
[ -z "$(squeue -h)" ] || { echo "slurm: jobs were left behind" >&2; exit 1; }
sed -i 's/queue: all/queue: nowhere/' "$dir/jobs.yaml"
if said=$(xtl run "${study[@]}" --out "$dir/other" --slurm "$dir/jobs.yaml" 2>&1 >/dev/null); then echo "slurm: a wrong partition was not refused" >&2; exit 1; fi
echo "$said" | grep -q 'Slurm refuses the job'
echo 'slurm: passed'

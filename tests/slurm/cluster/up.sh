#!/bin/bash
# Start a SLURM of two nodes on this host; down.sh stops it.
set -euo pipefail
BASE=${1:?"usage: up.sh FOLDER CLIENT: of its state, which the user slurm must reach, and of its programs"}
export PATH="${2:?"usage: up.sh FOLDER CLIENT"}:$PATH"
HERE=$(cd "$(dirname "$0")" && pwd)
HOST=$(hostname -s)
if [ -s /etc/slurm/slurm.conf ] && ! grep -q '^ClusterName=tgn-tests$' /etc/slurm/slurm.conf; then
  echo "/etc/slurm/slurm.conf belongs to another cluster" >&2; exit 3
fi
mkdir -p "$BASE"/{run,log,state,spool/cpu01,spool/a100n1}
chmod 755 "$BASE"
chown slurm: "$BASE"/{state,log,run}
if [ -s "$BASE/run/pids" ]; then echo "it is up already: $BASE/run/pids" >&2; exit 2; fi
: > "$BASE/run/pids"
note() { echo "$1 $2" >> "$BASE/run/pids"; }
within() {  # seconds, command...
  local tries=$(($1 * 5)); shift
  for _ in $(seq $tries); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done
  echo "not in time: $*" >&2; return 1
}
signs() { munge -n | unmunge; }
both_idle() { [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 2 ]; }

install -d -o munge -g munge -m 0755 /run/munge
install -d -o munge -g munge -m 0700 /etc/munge /var/log/munge
install -d -o munge -g munge -m 0711 /var/lib/munge
if [ ! -s /etc/munge/munge.key ]; then
  (umask 077; head -c 128 /dev/urandom > /etc/munge/munge.key)
  chown munge: /etc/munge/munge.key
fi
if ! signs > /dev/null 2>&1; then
  runuser -u munge -- /usr/sbin/munged
  within 10 signs
  note munged "$(cat /run/munge/munged.pid)"
fi
mkdir -p /etc/slurm
sed -e "s|@BASE@|$BASE|g" -e "s|@HOST@|$HOST|g" "$HERE/slurm.conf" > /etc/slurm/slurm.conf
cp "$HERE/gres.conf" /etc/slurm/gres.conf
chmod 644 /etc/slurm/slurm.conf /etc/slurm/gres.conf
/usr/sbin/slurmctld
within 20 scontrol ping
note slurmctld "$(cat "$BASE/run/slurmctld.pid")"
for node in cpu01 a100n1; do
  /usr/sbin/slurmd -N "$node"
  within 10 test -s "$BASE/run/slurmd-$node.pid"
  note "slurmd-$node" "$(cat "$BASE/run/slurmd-$node.pid")"
done
within 30 both_idle || { sinfo -N -l; exit 1; }

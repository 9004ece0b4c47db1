#!/bin/bash
# Install SLURM and munge from Debian's packages, with the programs of SLURM's client in $CLIENT
# and so off everyone's PATH: where Snakemake finds them and no controller answers, it waits.
# Needs apt, root and a network, and ends with status 3 where one lacks.
set -euo pipefail
CLIENT=${1:?"usage: install.sh FOLDER, where the client's programs go"}
mkdir -p "$CLIENT"
command -v dpkg-divert apt-get > /dev/null || { echo "no apt here" >&2; exit 3; }
[ "$(id -u)" = 0 ] || { echo "only root installs packages" >&2; exit 3; }
if command -v sbatch > /dev/null && [ ! -e "$CLIENT/sbatch" ]; then
  echo "SLURM is here already, and it is not the tests'" >&2; exit 3
fi
for program in sacct sacctmgr salloc sattach sbatch sbcast scancel scontrol scrontab sdiag sinfo \
    sprio squeue sreport srun sshare sstat strigger; do
  dpkg-divert --quiet --local --rename --divert "$CLIENT/$program" --add "/usr/bin/$program"
done
if [ -x "$CLIENT/sbatch" ] && command -v slurmctld slurmd munged > /dev/null; then exit 0; fi
# installing starts no daemon
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq --error-on=any || { echo "apt reaches no archive of packages" >&2; exit 3; }
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  slurmctld slurmd slurm-client munge > /dev/null

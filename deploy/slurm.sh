#!/bin/bash
# Four ranks on four hosts through Slurm: sbatch deploy/slurm.sh /shared/W8A8
# Slurm starts the ranks, and MPI finds them through PMIx (srun --mpi=list must show pmix).
#SBATCH --job-name=octet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
set -euo pipefail
model=${1:?usage: sbatch deploy/slurm.sh MODEL}
echo "octet answers at http://$(hostname):8000"
exec srun --mpi=pmix --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
  octet serve --model="$model" --served-model-name NAME --port 8000

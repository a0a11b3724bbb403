#!/usr/bin/env bash
# One launch on a Slurm allocation: a Ray head on its first node, a worker on every other.
#
#   sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=32 cluster/slurm.sh sweeps/ph2_losses.yaml
#
# What follows the sweep file goes to `segsweep launch`. Submit it again to go on: two minutes before
# the time is up the launch ends in good order. `storage_path` must lie on a disk that all nodes see,
# and the environment that is active here must exist on each.
#SBATCH --job-name=segsweep
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:TERM@120
set -euo pipefail

port=${RAY_PORT:-6379}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
here=(srun --nodes=1 --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}") # not inherited
size=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}")
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then size+=(--num-gpus="$SLURM_GPUS_ON_NODE"); fi

# a token of this job's own: nobody else on the network can use its cluster
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

head=$("${here[@]}" --nodelist="${nodes[0]}" hostname -I | awk '{print $1}')
started=()
end() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap end EXIT
launch="" stop=""
trap 'stop=1; if [ -n "$launch" ]; then kill -TERM "$launch" 2>/dev/null || true; fi' TERM INT

"${here[@]}" --nodelist="${nodes[0]}" ray start --head --block --disable-usage-stats \
    --node-ip-address="$head" --port="$port" --include-dashboard=false "${size[@]}" &
started+=($!)
for node in "${nodes[@]:1}"; do
    "${here[@]}" --nodelist="$node" ray start --block --disable-usage-stats \
        --address="$head:$port" "${size[@]}" &
    started+=($!)
done
# a launch counts its places when it begins: every node must have joined by then
for _ in $(seq 60); do
    joined=$(ray status --address="$head:$port" 2>/dev/null | sed '/Pending/,$d' | grep -c ' node_') ||
        true
    if [ "${joined:-0}" -ge "${#nodes[@]}" ]; then break; fi
    sleep 2
done
if [ "${joined:-0}" -lt "${#nodes[@]}" ]; then
    echo "only ${joined:-0} of ${#nodes[@]} nodes have joined the Ray cluster" >&2
    exit 1
fi

if [ -n "$stop" ]; then exit 143; fi
segsweep launch "$@" --address "$head:$port" &
launch=$!
if [ -n "$stop" ]; then kill -TERM "$launch"; fi
while kill -0 "$launch" 2>/dev/null; do sleep 1; done # `wait` would end with the signal
code=0
wait "$launch" || code=$?
exit "$code"

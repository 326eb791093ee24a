#!/usr/bin/env bash
# Run a study on the nodes of a Slurm allocation, with a private Ray that ends with the job:
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 deploy/slurm.sh studies/block_mix.yaml --results /shared/mine
#
# The arguments after the script go to `hiri-search run`. The results folder and HIRI_SEARCH_CACHE must be on a file
# system that all nodes mount. Five minutes before the time limit the running epochs are finished and recorded, and the
# job goes back into the queue. When it starts again, the study continues.
#
# Tested: the flow, with fake srun and scontrol commands and two "nodes" on one machine (tests/test_deploy.py).
# Not tested: on Slurm itself.
#SBATCH --job-name=hiri_search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
set -euo pipefail

INTERRUPTED=130    # exit code of `hiri-search run` if trials are unfinished
START_SECONDS=300  # time limit for the head to answer

# The token keeps other users of these machines out. srun passes the environment on to all nodes.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { # NODE COMMAND...; `exec` replaces the calling subshell, so that a kill reaches srun itself
    exec srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$1" "${@:2}"
}
ip=$(on "${nodes[0]}" hostname -I | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000)) # differs from job to job: another Ray may run on this node
common=(--num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block)

started=()
# shellcheck disable=SC2317  # called by the trap
end() { # stop the job steps of this script, and nothing else
    trap - EXIT
    for step in "${started[@]}"; do kill -TERM "$step" 2>/dev/null || true; done
    wait
}
trap end EXIT

on "${nodes[0]}" ray start --head --node-ip-address="$ip" --port="$port" --ray-client-server-port=$((port + 20000)) \
    --include-dashboard=false --temp-dir="/tmp/ray_$SLURM_JOB_ID" "${common[@]}" &
started+=($!)
for ((second = 0; ; second++)); do
    (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null && break
    [ "$second" -lt "$START_SECONDS" ] || { echo "the head of Ray on ${nodes[0]} does not answer at $ip:$port" >&2; exit 1; }
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on "$node" ray start --address="$ip:$port" "${common[@]}" &
    started+=($!)
done

hiri-search run "$@" --address "$ip:$port" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do # a signal ended the wait, but not the driver
    code=0
    wait "$driver" || code=$?
done
if [ "$code" = "$INTERRUPTED" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"

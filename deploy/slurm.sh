#!/usr/bin/env bash
# A study over the nodes of a Slurm allocation, with a Ray of its own that ends with it:
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 deploy/slurm.sh studies/block_mix.yaml --results /shared/mine
#
# What follows the script goes to `hiri-search run`. Results, and HIRI_SEARCH_CACHE, must lie where all nodes see them.
# Five minutes before the time is over the epochs at work are finished and written, and the job goes back into the
# queue; there it goes on.
#
# Tested: its flow, with stand-ins for srun and scontrol and two "nodes" on one machine (tests/test_deploy.py).
# Untested: on Slurm itself.
#SBATCH --job-name=hiri_search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
set -euo pipefail

INTERRUPTED=130 # what `hiri-search run` ends with when something is left to be done
PATIENCE=300    # seconds until a head answers

# Who knows the token is let in: other users of these machines are not. srun hands the environment on.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { # NODE COMMAND..., in place of the subshell that it is called in: what is killed then is srun itself
    exec srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$1" "${@:2}"
}
ip=$(on "${nodes[0]}" hostname -I | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000)) # of its own, should somebody else's Ray run there
common=(--num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block)

started=()
# shellcheck disable=SC2317  # called by the trap
end() { # what was started here, and nothing else
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
    [ "$second" -lt "$PATIENCE" ] || { echo "the head of Ray on ${nodes[0]} does not answer at $ip:$port" >&2; exit 1; }
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
while kill -0 "$driver" 2>/dev/null; do # the signal has ended the wait, and not the driver
    code=0
    wait "$driver" || code=$?
done
if [ "$code" = "$INTERRUPTED" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"

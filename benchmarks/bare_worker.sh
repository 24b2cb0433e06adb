#!/bin/bash
# A Ray worker as people start it by hand, of the same size as a worker of cluster-configs/sandbox.yaml.
# usage: bare_worker.sh FOLDER HEAD_ADDRESS PORT TEMP_DIR
number=${SLURM_ARRAY_TASK_ID:-0}
echo "$EPOCHREALTIME $(hostname)" > "$1/worker-$number.started"
exec ray start --address="$2" --block --num-cpus=2 --num-gpus=0 \
    --memory=1400000000 --object-store-memory=600000000 --temp-dir="$4/$number" \
    --dashboard-agent-listen-port="$(($3 + number))" --min-worker-port=0 --max-worker-port=0

#!/bin/bash
# A Ray head as people start it by hand, of the same size as the head of cluster-configs/sandbox.yaml.
# usage: bare_head.sh FOLDER PORT TEMP_DIR
echo "$EPOCHREALTIME $(hostname)" > "$1/head.started"
# Ports of its own and any free port for worker processes: other clusters may be on this host.
exec ray start --head --block --num-cpus=0 --num-gpus=0 \
    --memory=1400000000 --object-store-memory=600000000 --temp-dir="$3" \
    --port="$2" --dashboard-port="$(($2 + 1))" --ray-client-server-port="$(($2 + 2))" \
    --dashboard-agent-listen-port="$(($2 + 3))" --min-worker-port=0 --max-worker-port=0

#!/bin/bash
# One sbatch and one scancel per node, one after the other.
# usage: burst_bare.sh SCRIPT NAME COUNT
echo "$EPOCHREALTIME"
ids=()
for _ in $(seq "$3"); do
    ids+=("$(sbatch --parsable --partition=compute --time=00:10:00 --ntasks=1 --cpus-per-task=1 \
        --mem=10M --output=/dev/null --job-name="$2" "$1")") || exit 1
done
echo "$EPOCHREALTIME"
squeue --noheader --name="$2" > /dev/null
echo "$EPOCHREALTIME"
for id in "${ids[@]}"; do
    scancel "$id"
done

#!/bin/bash
# Set up environments of their own and run all checks and tests, the fast ones first.
# usage: tests/run.sh [fast|e2e]   (default: both; e2e needs root, for the sandbox)
set -euo pipefail
cd "$(dirname "$0")/.."
layers=${1:-all}
prefix=$(bash sandbox/environment.sh test '.[dev]')
export PATH="$prefix/bin:$PATH"

if [ "$layers" != e2e ]; then
    ruff check .
    mypy
    if ! command -v shellcheck > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        echo "Installing the Debian package shellcheck"
        apt-get update -q > /dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y shellcheck > /dev/null
    fi
    if command -v shellcheck > /dev/null; then
        git ls-files -z '*.sh' 'slurm_provider/job_scripts/*' '.ci/run' | xargs -0 shellcheck
    else
        echo "shellcheck is not installed: the shell scripts were not checked"
    fi
    # Pure functions, Ray's real reconciler, fake Slurm programs; then what starts servers.
    python -m pytest -q -n 2 -m "not sandbox" tests --ignore tests/slurm_provider/transport --ignore tests/dagster_glue
    python -m pytest -q -n 2 -m "not sandbox" tests/slurm_provider/transport tests/dagster_glue
fi
if [ "$layers" = fast ]; then
    exit
fi
if [ "$(id -u)" != 0 ]; then
    echo "The end-to-end tests need root for the sandbox: sudo tests/run.sh e2e"
    exit 1
fi
# The sandbox itself first, and alone: these tests take it down and boot it again.
python -m pytest -q -m sandbox tests/sandbox
python -m pytest -q -m sandbox --ignore tests/sandbox --durations=15
# The lower bounds of our dependencies, the oldest Ray among them: its reconciler, and a cluster that
# grows and shrinks.
oldest=$(bash sandbox/environment.sh oldest . pytest hypothesis -c tests/oldest.txt)
"$oldest/bin/python" -m pytest -q -m "not sandbox" tests/slurm_provider/reconciler \
    tests/slurm_provider/fleet tests/slurm_provider/agent tests/slurm_provider/test_*.py
"$oldest/bin/python" -m pytest -q -m sandbox tests/e2e/test_growth.py

#!/bin/bash
# Set up an environment of its own and run all checks and tests, the fast ones first.
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
    python -m pytest -q -m "not sandbox"
fi
if [ "$layers" != fast ]; then
    if [ "$(id -u)" = 0 ]; then
        python -m pytest -q -m sandbox --durations=15
    else
        echo "The end-to-end tests need root for the sandbox: sudo tests/run.sh e2e"
    fi
fi

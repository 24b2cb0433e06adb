#!/bin/bash
# Set up an environment of its own and run all checks and tests, the fast ones first.
# usage: tests/run.sh [fast|e2e]   (default: both; e2e needs root, for the sandbox)
set -euo pipefail
cd "$(dirname "$0")/.."
layers=${1:-all}

# Ordinary users of the sandbox run this environment too, so neither it nor its interpreter may
# lie below somebody's private home folder.
python=${PYTHON:-/usr/bin/python3}
venv=${RAY_SLURM_TEST_VENV:-/var/tmp/ray-slurm-test-env-$(id -u)}
if [ "$(id -u)" = 0 ] && ! dpkg -s python3-venv shellcheck > /dev/null 2>&1; then
    echo "Installing the Debian packages python3-venv and shellcheck"
    apt-get update -q > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv shellcheck > /dev/null
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
rm -rf build # setuptools would install what a removed file left there
echo "Installing the project into $venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check '.[dev]'
chmod -R a+rX "$venv"
export PATH="$venv/bin:$PATH"

if [ "$layers" != e2e ]; then
    ruff check .
    mypy
    if command -v shellcheck > /dev/null; then
        git ls-files -z '*.sh' 'slurm_provider/job_scripts/*' '.ci/run' | xargs -0 shellcheck
    else
        echo "shellcheck is not installed: shell scripts were not checked"
    fi
    python -m pytest -q -m "not sandbox"
fi
if [ "$layers" != fast ]; then
    if [ "$(id -u)" = 0 ]; then
        python -m pytest -q -m sandbox --durations=15
    else
        echo "The end-to-end tests need root for the sandbox: run sudo tests/run.sh e2e"
    fi
fi

#!/bin/bash
# Set up environments of their own and run all checks and tests, the fast ones first.
# usage: tests/run.sh [fast|e2e|provider]
# Without a word: everything. `provider` leaves out the tests of Dagster. All but `fast` need root, for
# the sandbox.
set -euo pipefail
cd "$(dirname "$0")/.."
layers=${1:-all}
case $layers in
    all | fast | e2e) dagster=(tests/dagster_glue) without_dagster=() ;;
    provider) dagster=() without_dagster=(--ignore tests/dagster_glue) ;;
    *)
        echo "tests/run.sh: '$layers' is none of fast, e2e, provider" >&2
        exit 2
        ;;
esac

# Tests with real servers have deadlines, and two busy cores may miss one (and Ray 2.52 may lose a
# process as it starts): what failed runs once more, with nothing beside it, and the output names it.
with_servers() {
    "$@" && return
    echo "Once more, those that failed:"
    "$@" -n 0 --last-failed --last-failed-no-failures none
}

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
    with_servers python -m pytest -q -n 2 -m "not sandbox" tests/slurm_provider/transport "${dagster[@]}"
fi
if [ "$layers" = fast ]; then
    exit
fi
if [ "$(id -u)" != 0 ]; then
    echo "The end-to-end tests need root for the sandbox: sudo tests/run.sh e2e"
    exit 1
fi
if python -m sandbox status 2> /dev/null | grep -q ' running'; then
    echo "A sandbox is up, and the end-to-end tests boot their own: python -m sandbox down"
    exit 1
fi
trap 'python -m sandbox down' EXIT
python -m sandbox down > /dev/null # what an ended run may have left
# The sandbox itself first, and alone: these tests take it down and boot it again.
python -m pytest -q -m sandbox tests/sandbox
# Then two test processes on one sandbox, which waits more than it works; it has hosts for both, and
# tracks processes as on most sites where this machine can.
tracking=$(python -c 'from sandbox import cgroups; print("cgroup" if cgroups.version() else "linuxproc")')
python -m sandbox up --hosts 7 --proctrack "$tracking"
with_servers python -m pytest -q -m "sandbox and not alone" -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/sandbox "${without_dagster[@]}" --durations=15
with_servers python -m pytest -q -m "sandbox and alone" --ignore tests/sandbox "${without_dagster[@]}"
# The lower bounds of our dependencies, the oldest Ray among them: the fast tests, then a cluster that
# grows, shrinks and shares hosts.
oldest=$(bash sandbox/environment.sh oldest '.[dagster]' pytest pytest-timeout pytest-xdist hypothesis -c tests/oldest.txt)
with_servers "$oldest/bin/python" -m pytest -q -n 2 -m "not sandbox" tests/slurm_provider "${dagster[@]}" \
    --ignore tests/dagster_glue/test_example_project.py
python -m sandbox up --env "$oldest" # for its users
with_servers "$oldest/bin/python" -m pytest -q -m sandbox tests/e2e/test_growth.py \
    tests/e2e/test_shared_hosts.py

#!/bin/bash
# Make a Python environment that the sandbox's users can run too, and print its folder.
# usage: environment.sh NAME REQUIREMENT...     (pip's requirements, e.g. '.[dev]')
# Neither it nor its interpreter may lie below a private home folder, so it is made from the
# system's Python; $PYTHON names another one.
set -euo pipefail
name=$1
shift
python=${PYTHON:-/usr/bin/python3}
prefix=/var/tmp/ray-slurm-$name-env-$(id -u)
if ! "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        echo "Installing the Debian package python3-venv" >&2
        apt-get update -q > /dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv > /dev/null
    else
        echo "environment.sh: $python is not a Python >= 3.10 with venv; install python3-venv or set PYTHON" >&2
        exit 1
    fi
fi
[ -x "$prefix/bin/pip" ] || "$python" -m venv "$prefix" >&2
echo "Installing $* into $prefix" >&2
"$prefix/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
chmod -R a+rX "$prefix"
echo "$prefix"

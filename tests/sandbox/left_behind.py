"""A step that ends and leaves a process behind, as a daemon would."""

from __future__ import annotations

import uuid

from tests.sandbox_fixture import RunningSandbox


def left_behind(sandbox: RunningSandbox) -> int:
    """How many processes of such a step live on; they are ended."""
    host = next(iter(sandbox.info["hosts"]))
    mark = f"{uuid.uuid4().int % 100_000 + 100_000}"  # an odd number of seconds to find it by
    sandbox.run("srun", "-w", host, "sh", "-c", f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &")
    find = ("sh", "-c", f"ps -eo pid=,args= | grep '[s]leep {mark}' | cut -c1-8")
    left = sandbox.run(*find, host=host).stdout.split()
    if left:
        sandbox.run("kill", *left, host=host)
    return len(left)

"""One at a time: who launches a cluster's head, and who removes its folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from slurm_provider.errors import ClusterError
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

_WAIT_S = 10
_LONGEST_S = 600  # a holder that vanished behind SSH is forgotten then
_ENDS_S = 10.0
_HELD_BY_ANOTHER = 75  # flock's exit code, chosen by us
# The file is of the folder, which its holder may remove: who gets the lock of a file that is there
# no longer tries again.
_HOLD = f"""
umask 077
while mkdir -p "$1" && exec 9>> "$2"; do
    timeout {_WAIT_S + 5} flock -w {_WAIT_S} -E {_HELD_BY_ANOTHER} 9 || exit
    [ "$2" -ef /proc/self/fd/9 ] && echo && exec timeout {_LONGEST_S} cat
done
"""


@contextmanager
def cluster_lock(store: ClusterStore) -> Iterator[None]:
    """Hold the cluster's lock; its folder exists within, made if need be.

    A small program on the side of Slurm's commands holds it and ends with our connection to it, so
    it is not left behind. Raises ClusterError if another holder does not give it back in time.
    """
    root = store.paths.root
    process = store.transport.popen(["sh", "-c", _HOLD, "sh", root, store.paths.lock])
    try:
        if not process.stdout.read(1):
            if process.wait(_ENDS_S) == _HELD_BY_ANOTHER:
                raise ClusterError(
                    f"another `ray up` or `ray down` is at work in {root} just now; try again in a "
                    "moment"
                )
            # No locks there, or no flock: what is left is to look carefully.
            words = process.stderr_tail.strip()
            logger.warning("commands at once for one cluster are not kept apart: %s", words)
        yield
    finally:
        with contextlib.suppress(TransportError, OSError):  # the connection dropped: it ended
            process.stdin.close()
            process.wait(_ENDS_S)

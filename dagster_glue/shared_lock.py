"""A lock between processes on different machines, on the file system that the cluster shares.

A holder that is killed does not keep it: the lock is touched for as long as the holder lives, and
taken away once nobody has touched it for a while.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dagster_glue.scripts import shell_script
from slurm_provider.errors import ClusterError
from slurm_provider.transport import Transport, TransportError

EXPIRY_S = 60
"""A lock that nobody touched for so long belonged to a process that is gone."""
_POLL_S = 0.5
_TIMEOUT_S = 60.0
_MAIN = b'\nset -u; umask 077; folder=$1 key=$2 action=$3; shift 3; "lock_$action" "$@"\n'


def lock_functions() -> bytes:
    """The shell functions of a lock, for scripts that do more than lock."""
    return shell_script("lock.sh").encode()


def new_token() -> str:
    """Names one holder."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class SharedLock:
    """The lock ``key`` in ``folder``, as ``transport`` sees it."""

    transport: Transport
    folder: str
    key: str
    expiry_s: int = EXPIRY_S
    poll_s: float = _POLL_S

    @contextmanager
    def held(self, check: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
        """Wait for the lock and hold it for the block; yields whether it is still ours.

        ``check`` is called while waiting and may end it by raising. Raises ClusterError where the
        folder cannot be used, and TransportError.
        """
        token = new_token()
        while self._ask("claim", token, str(self.expiry_s)) not in ("claimed", "seized"):
            check()
            time.sleep(self.poll_s)
        try:
            with kept_alive(lambda: self._ask("renew", token) != "lost", self.expiry_s) as is_ours:
                yield is_ours
        finally:
            try:
                self._ask("release", token)
            except (ClusterError, TransportError):
                pass  # it expires

    def _ask(self, action: str, *arguments: str) -> str:
        done = self.transport.run(
            ["sh", "-s", "--", self.folder, self.key, action, *arguments],
            stdin=lock_functions() + _MAIN,
            timeout_s=_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise ClusterError(
                f"the lock {self.folder}/{self.key}.lock on {self.transport.label} cannot be used "
                f"(exit code {done.returncode}: {done.stderr.strip()[-300:]}); check the folder's "
                "rights, the disk space and quota"
            )
        return done.stdout.strip()


@contextmanager
def kept_alive(renew: Callable[[], bool], expiry_s: float) -> Iterator[Callable[[], bool]]:
    """Call ``renew`` often enough for as long as the block lasts; yields whether the lock is still
    ours. ``renew`` returns False once it is lost; what it raises is tried again."""
    ended, lost = threading.Event(), threading.Event()

    def touch() -> None:
        while not ended.wait(expiry_s / 4):
            try:
                if not renew():
                    lost.set()
                    return
            except Exception:  # the next one may get through in time
                continue

    thread = threading.Thread(target=touch, name="shared-lock", daemon=True)
    thread.start()
    try:
        yield lambda: not lost.is_set() and renew()
    finally:
        ended.set()
        thread.join()

"""What Ray before 2.55 needs for several nodes on one host; with newer Ray nothing of it is used.

There, ``ray start`` ignores a worker's ``--temp-dir``: all nodes of a cluster use the path of the
head's folder, and two of them on one host share sockets, logs and environments. Ray's node itself
can have its own, so `start_worker` tells it past the command line. A program that connects to its
host's node (the driver of a job, say) still looks below the path of the head's folder, which is
another host's: `SessionLink` leads it to a worker's.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from slurm_provider.agent.ray_start import option_value
from slurm_provider.agent.scratch import make_parent
from slurm_provider.requirements import version_tuple

_FIRST_WITH_WORKERS_FOLDERS = (2, 55)
_SESSION = "session_latest"  # Ray's own link to the session's folder


def is_installed() -> bool:
    """Whether this interpreter's Ray is one of these; without importing it."""
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return False  # `ray` is a program of another interpreter
    return version_tuple(version) < _FIRST_WITH_WORKERS_FOLDERS


def start_worker(arguments: Sequence[str]) -> int:
    """Be ``ray start ARGUMENTS`` of a worker, whose ``--temp-dir=FOLDER`` counts."""
    from ray._private import parameter
    from ray.scripts.scripts import main

    temp_dir = option_value(arguments, "--temp-dir")

    class OwnFolder(parameter.RayParams):  # type: ignore[misc]
        def __init__(self, *args: Any, **values: Any) -> None:
            super().__init__(*args, **{**values, "temp_dir": temp_dir})

    parameter.RayParams = OwnFolder
    rest = [argument for argument in arguments if not argument.startswith("--temp-dir=")]
    sys.argv = ["ray", "start", *rest]
    main()
    return 0


class SessionLink:
    """A link from the path of the head's folder to ``own``, a worker's on this host.

    One is enough for all workers of the cluster on a host: a program finds there its session and
    this host's address, and by that a node. On the head's host the folder itself is there.
    """

    def __init__(self, head_folder: str, own: str) -> None:
        self._path = head_folder
        self._own = own

    def place(self) -> None:
        """Let it lead here, where Ray runs by now. Never raises: the node works without."""
        try:
            make_parent(self._path)
            with self._locked():
                self._lead_to(self._own)
        except OSError as error:
            print(
                f"[agent] programs on this host cannot connect to Ray: {self._path}: "
                f"{error.strerror or error}; set provider.temp_dir to a folder that every host has",
                flush=True,
            )

    def remove(self) -> None:
        """Before the worker's folder goes: lead to another worker of its session, if one is here.

        Never raises.
        """
        with contextlib.suppress(OSError), self._locked():
            session = _session(self._own)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._own, _SESSION))  # no other may lead here any more
            if self._leads_here():
                others = [folder for folder in self._neighbours() if _session(folder) == session]
                if session and others:
                    self._lead_to(others[0])
                else:
                    os.unlink(self._path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._path))  # where nothing else is in it

    def _lead_to(self, folder: str) -> None:
        if os.path.isdir(self._path) and not os.path.islink(self._path):
            return  # the head's folder: this is its host
        new = f"{self._path}.new"  # of whoever holds the lock
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(folder, new)
        os.replace(new, self._path)

    def _leads_here(self) -> bool:
        return os.path.islink(self._path) and os.readlink(self._path) == self._own

    def _neighbours(self) -> list[str]:
        base = os.path.dirname(self._own)
        folders = (os.path.join(base, name) for name in sorted(os.listdir(base)))
        return [folder for folder in folders if not os.path.islink(folder)]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _session(folder: str) -> str | None:
    try:
        return os.path.basename(os.readlink(os.path.join(folder, _SESSION)))
    except OSError:
        return None

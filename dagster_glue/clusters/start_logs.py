"""What the nodes of a cluster that never came up had printed, kept where runs are.

The cluster's own folder goes with it, and the log is all that tells why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from dagster_glue.clusters.start_failure import NoCluster, kind_of
from dagster_glue.jobs.run_folder import RUN_LOG
from dagster_glue.scripts import shell_script
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError
from slurm_provider.transport import TransportError

_TIMEOUT_S = 60.0
_LONGEST_LOG = 10 << 20


@contextmanager
def keeping_start_logs(cluster: RayCluster, work_dir: str) -> Iterator[None]:
    """After a ClusterError in the block, keep the logs below ``work_dir`` and raise a NoCluster
    that names that file in place of the one that goes."""
    try:
        yield
    except ClusterError as error:
        kind, words, folder = kind_of(error, cluster), str(error), f"{work_dir}/{cluster.name}"
        if _kept(cluster, folder):
            words = _moved(words, cluster.directory, f"{folder}/{RUN_LOG}")
        raise NoCluster(words, kind) from None


def _moved(words: str, directory: str, kept: str) -> str:
    changed, times = re.subn(rf"{re.escape(directory)}/logs/\S+\.log", kept, words)
    return changed if times else f"{words}\nWhat its nodes printed is kept in {kept}"


def _kept(cluster: RayCluster, folder: str) -> bool:
    logs = f"{cluster.directory}/logs"
    try:
        done = cluster.transport.run(
            [
                "sh",
                "-c",
                shell_script("keep_start_logs.sh"),
                "sh",
                logs,
                folder,
                RUN_LOG,
                str(_LONGEST_LOG),
            ],
            timeout_s=_TIMEOUT_S,
        )
    except (TransportError, OSError):
        return False  # the error itself matters more
    return done.returncode == 0 and done.stdout.strip() == "kept"

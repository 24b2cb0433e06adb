"""Put folders, Slurm's configuration and the GPUs' device files in place; harmless if there."""

from __future__ import annotations

import os
import stat

from . import cgroups
from .errors import SandboxError
from .layout import Paths, Shape
from .slurm_conf import cgroup_conf, gres_conf, slurm_conf, slurmdbd_conf


def make_folders(paths: Paths) -> None:
    """Readable by everybody where users need it, private elsewhere."""
    for folder, mode in (
        (paths.data, 0o755),
        (paths.slurm_conf.parent, 0o755),
        (paths.munge, 0o755),
        (paths.database, 0o700),
        (paths.logs, 0o755),
        (paths.spool, 0o755),
        (paths.spool / "slurmctld", 0o700),
        (paths.devices, 0o755),
        (paths.homes, 0o755),
        (paths.ssh, 0o755),
        (paths.data / "hosts", 0o700),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)


def write_slurm_files(shape: Shape, paths: Paths) -> None:
    """slurm.conf and the files beside it, and the device files of the GPUs.

    Raises SandboxError if this machine cannot do what `shape.proctrack` asks.
    """
    version = cgroups.version()
    if version is None and shape.proctrack == "cgroup":
        raise SandboxError(
            "--proctrack cgroup needs the kernel's cgroups below /sys/fs/cgroup, and this "
            "machine shows none; use --proctrack linuxproc."
        )
    if version is not None:
        limits_memory = shape.proctrack == "cgroup" and cgroups.can_limit_memory()
        cgroups.make_parent_of_scopes()
        paths.cgroup_conf.write_text(cgroup_conf(version, limits_memory=limits_memory))
    paths.slurm_conf.write_text(slurm_conf(shape, paths))
    paths.gres_conf.write_text(gres_conf(shape, paths))
    # slurmdbd refuses a file that others may read.
    private = os.open(paths.slurmdbd_conf, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(private, "w") as out:
        out.write(slurmdbd_conf(paths))
    for number in range(shape.gpus):
        device = paths.devices / f"gpu{number}"
        if not device.exists():
            os.mknod(device, stat.S_IFCHR, os.makedev(1, 3))  # what /dev/null is
            device.chmod(0o666)

"""The cluster's folder on the other side of a real sshd: others must not be able to change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_provider.errors import ConfigError
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import SshSettings, SshTransport
from tests.slurm_provider.transport.real_sshd import Sshd


def test_it_is_made_private_there_and_refused_where_others_may_replace_it(
    sshd: Sshd,
    settings_for: Callable[..., SshSettings],
    connect: Callable[[SshSettings], SshTransport],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "shared" / "it's a cluster"
    store = ClusterStore(connect(settings_for(sshd)), str(folder))
    store.create("demo")
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "nodes")] == [0o700, 0o700]
    store.check_private()
    folder.parent.chmod(0o777)
    for refused in (store.check_own, lambda: store.create("demo")):
        with pytest.raises(ConfigError, match=r"/shared \(mode 777\) may be written by everybody"):
            refused()

"""The cluster's lock, held through a real sshd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_provider.errors import ClusterError
from slurm_provider.fleet import lock
from slurm_provider.fleet.lock import cluster_lock
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport, SshSettings, SshTransport
from tests.slurm_provider.transport.real_sshd import Sshd

SettingsFor = Callable[..., SshSettings]
Connect = Callable[[SshSettings], SshTransport]


def test_it_keeps_others_out_until_it_is_given_back(
    sshd: Sshd,
    settings_for: SettingsFor,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = str(tmp_path / "it's a cluster")
    far = ClusterStore(connect(settings_for(sshd)), folder)
    near = ClusterStore(LocalTransport(), folder)
    with cluster_lock(far):
        monkeypatch.setattr(lock, "_HOLD", lock._HOLD.replace("flock -w 10", "flock -w 0"))
        for store in (near, far):
            with pytest.raises(ClusterError, match="is at work in"), cluster_lock(store):
                pass
        far.create("demo")
    with cluster_lock(near):
        near.remove(keep_logs=False)
    assert not Path(folder).exists()


def test_a_connection_that_drops_gives_it_back_and_fails_nothing(
    own_sshd: Callable[..., Sshd], settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    store = ClusterStore(transport, str(tmp_path / "cluster"))
    with cluster_lock(store):
        server.drop_connections()
        assert transport.run(["echo", "submitted"], timeout_s=30).stdout == "submitted\n"
    with cluster_lock(ClusterStore(LocalTransport(), str(tmp_path / "cluster"))):
        pass

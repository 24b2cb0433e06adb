from __future__ import annotations

from pathlib import Path

from sandbox.layout import Paths
from sandbox.sshd import sshd_config
from sandbox.users import known_hosts, login_path, login_profile

PATHS = Paths(Path("/srv/my sb"))


def test_the_python_environment_comes_first_on_the_path() -> None:
    assert login_path("/opt/env").split(":")[0] == "/opt/env/bin"
    assert login_path(None) == "/usr/local/bin:/usr/bin:/bin"


def test_the_profile_survives_odd_folder_names() -> None:
    assert "export SLURM_CONF='/srv/my sb/etc/slurm.conf'\n" in login_profile(PATHS, "/opt/env")


def test_known_hosts_lists_the_edge_node_by_name_and_address() -> None:
    text = known_hosts("ssh-ed25519 AAAA edge\n")
    assert text == "[10.77.0.1]:2222,[edge]:2222 ssh-ed25519 AAAA\n"


def test_only_the_sandboxs_users_may_log_in_and_with_slurm_at_hand() -> None:
    lines = sshd_config(Paths(Path("/srv/sb")), "/opt/env").splitlines()
    assert "AllowUsers user1 user2" in lines
    assert "ListenAddress 10.77.0.1:2222" in lines
    assert (
        "SetEnv SLURM_CONF=/srv/sb/etc/slurm.conf "
        "PATH=/opt/env/bin:/usr/local/bin:/usr/bin:/bin" in lines
    )

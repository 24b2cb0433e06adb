"""The sandbox's ordinary users: Unix users whose homes all hosts share."""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
from pathlib import Path

from .commands import attempt, run_command
from .errors import SandboxError
from .layout import EDGE_ADDRESS, EDGE_NAME, MARK, PASSWORD_USER, SSH_PORT, USERS, Paths
from .processes import kill_and_wait, of_uids


def create_users(paths: Paths, host_public_key: str) -> None:
    """Users, homes, SSH keys and the password of user1. Harmless if they are there.

    Raises SandboxError if this machine has a user of that name who is not the sandbox's.
    """
    for user in USERS:
        entry = _entry(user)
        if entry is None:
            _add_user(user, paths)
        elif entry.pw_gecos != MARK:
            raise SandboxError(
                f"This machine already has a user named {user}, which the sandbox did not make; "
                f"the sandbox needs the names {' and '.join(USERS)} for itself."
            )
        _fill_home(user, paths, host_public_key)


def data_folder_of_users() -> Path | None:
    """The data folder of the sandbox that made the users; None if no sandbox's users are there."""
    entry = _entry(USERS[0])
    if entry is None or entry.pw_gecos != MARK:
        return None
    return Path(entry.pw_dir).parents[1]


def write_profiles(paths: Paths, env_prefix: str | None) -> None:
    """~/.profile of every user: login shells forget what sshd set, as /etc/profile sets PATH."""
    for user in USERS:
        profile = paths.home(user) / ".profile"
        profile.write_text(login_profile(paths, env_prefix))


def remove_users() -> None:
    """End everything these users run on the edge node, then remove them; not their homes."""
    entries = [entry for user in USERS if (entry := _entry(user)) and entry.pw_gecos == MARK]
    kill_and_wait(of_uids({entry.pw_uid for entry in entries}))
    for entry in entries:
        run_command(["userdel", entry.pw_name])


def check_env_is_usable(env_prefix: str | None) -> None:
    """Raises SandboxError if the users cannot run the Python of that environment."""
    if env_prefix is None:
        return
    python = f"{env_prefix}/bin/python3"
    finished = attempt(["setpriv", "--reuid", USERS[0], "--clear-groups", python, "-c", ""])
    if finished.returncode != 0:
        raise SandboxError(
            f"The users of the sandbox cannot run {python}: {finished.stderr.strip()}. Make the "
            "environment from an interpreter and in a folder that everybody may read "
            "(/usr/bin/python3 -m venv /opt/...), or name another with --env."
        )


def login_path(env_prefix: str | None) -> str:
    """PATH of users: the given Python environment first."""
    plain = "/usr/local/bin:/usr/bin:/bin"
    return f"{env_prefix}/bin:{plain}" if env_prefix else plain


def login_profile(paths: Paths, env_prefix: str | None) -> str:
    """The text of ~/.profile."""
    return (
        f"# Written by the {MARK}.\n"
        f"export SLURM_CONF={shlex.quote(str(paths.slurm_conf))}\n"
        f"export PATH={shlex.quote(login_path(env_prefix))}\n"
    )


def _add_user(user: str, paths: Paths) -> None:
    run_command(
        # A range of ids of their own, away from the machine's people and services. System users get
        # no subordinate ids; Ubuntu 22.04's useradd cannot leave these out for others.
        [
            "useradd",
            "--system",
            *("-K", "SYS_UID_MIN=57001", "-K", "SYS_UID_MAX=57999"),
            *("-K", "SYS_GID_MIN=57001", "-K", "SYS_GID_MAX=57999"),
            *("--user-group", "--no-create-home", "--home-dir", str(paths.home(user))),
            *("--shell", "/bin/bash", "--comment", MARK),
            user,
        ]
    )
    if user == PASSWORD_USER:
        password = secrets.token_urlsafe(12)
        with os.fdopen(os.open(paths.password_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(password + "\n")
        run_command(["chpasswd"], text_in=f"{user}:{password}\n")
    else:
        # No password, yet not locked: sshd refuses even keys of a locked user.
        run_command(["usermod", "--password", "*", user])


def _fill_home(user: str, paths: Paths, host_public_key: str) -> None:
    entry = pwd.getpwnam(user)
    home, key = paths.home(user), paths.user_key(user)
    for folder in (home, key.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not key.exists():
        run_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user, "-f", str(key)])
    (key.parent / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    (key.parent / "known_hosts").write_text(known_hosts(host_public_key))
    for path in (home, key.parent, *key.parent.iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)


def known_hosts(host_public_key: str) -> str:
    """known_hosts(5) lines for the edge node's sshd."""
    kind, text = host_public_key.split()[:2]
    return f"[{EDGE_ADDRESS}]:{SSH_PORT},[{EDGE_NAME}]:{SSH_PORT} {kind} {text}\n"


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None

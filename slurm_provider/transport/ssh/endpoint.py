"""Settings plus the user's SSH configuration: where exactly to connect, and as whom."""

from __future__ import annotations

import getpass
import glob
import os
from dataclasses import dataclass, replace

import paramiko

from slurm_provider.transport.base import ConnectFailed
from slurm_provider.transport.ssh_settings import SshSettings, parse_jump, parse_jumps

DEFAULT_PORT = 22
DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_MAX_INCLUDE_DEPTH = 16  # as in OpenSSH


@dataclass(frozen=True)
class Endpoint:
    """One SSH server, fully resolved. Paths are expanded.

    ``via`` holds the settings of the jump host to go through, None for a direct connection.
    ``known_hosts`` names the file that new keys are added to first.
    """

    host: str
    port: int
    user: str
    via: SshSettings | None
    proxy_command: str | None
    key_files: tuple[str, ...]
    only_these_keys: bool
    known_hosts: tuple[str, ...]
    host_key_alias: str | None

    @property
    def label(self) -> str:
        where = self.host if self.port == DEFAULT_PORT else f"{self.host}:{self.port}"
        return f"{self.user}@{where}"


def resolve(settings: SshSettings) -> Endpoint:
    """Look ``settings.host`` up in the SSH configuration; explicit settings win.

    Raises ConnectFailed when the configuration cannot be read or a jump host not understood.
    """
    found = _configured(settings)
    host = str(found.get("hostname", settings.host))
    port = int(found.get("port", DEFAULT_PORT))
    jumps = settings.jumps
    if jumps is None:
        jumps = parse_jumps(str(found.get("proxyjump") or "").split(","))
        if jumps and _jump(settings, jumps[-1])[1] in (settings.host, host):
            jumps = ()  # ProxyJump under `Host *`: the jump host itself is reached directly
    configured_keys = [str(path) for path in found.get("identityfile", [])]
    if settings.known_hosts is not None:
        known_hosts: tuple[str, ...] = (settings.known_hosts,)
    else:
        own = str(found.get("userknownhostsfile", " ".join(DEFAULT_KNOWN_HOSTS))).split()
        system = str(found.get("globalknownhostsfile", " ".join(SYSTEM_KNOWN_HOSTS))).split()
        known_hosts = (*own, *system)
    proxy_command = found.get("proxycommand")
    return Endpoint(
        host=host,
        port=port,
        user=str(found.get("user") or getpass.getuser()),
        via=_last_jump(settings, jumps) if jumps else None,
        proxy_command=str(proxy_command) if proxy_command and settings.jumps is None else None,
        key_files=tuple(os.path.expanduser(path) for path in configured_keys or DEFAULT_KEYS),
        only_these_keys=str(found.get("identitiesonly", "no")).lower() == "yes",
        known_hosts=tuple(os.path.expanduser(path) for path in known_hosts),
        host_key_alias=str(found["hostkeyalias"]) if "hostkeyalias" in found else None,
    )


def expand_includes(text: str, folder: str, depth: int = 0) -> str:
    """``text`` of an SSH configuration with the files of its ``Include`` lines put in place.

    paramiko ignores Include. As in OpenSSH, relative names are taken from ``folder`` and the block
    in which an Include stands goes on after it.
    """
    block = "Host *"
    lines: list[str] = []
    for line in text.splitlines():
        keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() in ("host", "match"):
            block = line
        if keyword.lower() != "include" or depth >= _MAX_INCLUDE_DEPTH:
            lines.append(line)
            continue
        for pattern in rest.replace('"', " ").split():
            where = os.path.join(folder, os.path.expanduser(pattern))
            for path in sorted(glob.glob(where)):
                with open(path, encoding="utf-8", errors="replace") as file:
                    lines += expand_includes(file.read(), folder, depth + 1).splitlines()
        lines.append(block)
    return "\n".join(lines)


def _configured(settings: SshSettings) -> paramiko.SSHConfigDict:
    """What the configuration says; for each key the first word counts, and ours come first."""
    text = "Host *\n"
    text += f"User {settings.user}\n" if settings.user else ""
    text += f"Port {settings.port}\n" if settings.port else ""
    path = os.path.expanduser(settings.config_path or "/dev/null")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text += expand_includes(f"Host *\n{file.read()}", os.path.expanduser("~/.ssh"))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unusable(path, settings, error) from error
    try:
        return paramiko.SSHConfig.from_text(text).lookup(settings.host)
    except (ValueError, paramiko.SSHException) as error:
        raise _unusable(path, settings, error) from error


def _unusable(path: str, settings: SshSettings, error: Exception) -> ConnectFailed:
    return ConnectFailed(
        f"the SSH configuration {path} cannot be used for {settings.host!r} ({error}): mend it, "
        "or name another file as config_path"
    )


def _last_jump(settings: SshSettings, jumps: tuple[str, ...]) -> SshSettings:
    user, host, port = _jump(settings, jumps[-1])
    return replace(
        settings, host=host, user=user, port=port, password=None, jump_host=jumps[:-1] or None
    )


def _jump(settings: SshSettings, text: str) -> tuple[str | None, str, int | None]:
    try:
        return parse_jump(text)
    except ValueError as error:
        raise ConnectFailed(f"{settings.label}: {error}") from None

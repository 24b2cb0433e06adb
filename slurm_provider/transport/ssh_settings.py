"""How to reach the other side over SSH. Free of paramiko, so that any host can check a YAML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

HostKeyPolicy = Literal["strict", "accept-new", "off"]


@dataclass(frozen=True)
class SshSettings:
    """What the user says about an SSH connection; ``~/.ssh/config`` fills in the rest.

    Equal settings share one connection in a process.

    Attributes:
        host: a name, an address, or a ``Host`` of the SSH configuration.
        key_path: the private key to try first. Jump hosts are offered it as well.
        password: for the login at ``host`` and for an encrypted ``key_path``. Never sent to jump
            hosts, never shown.
        jump_host: ``user@host:port``, several in a row separated by commas or as a tuple; the
            first is the one that is reached directly. ``none`` overrides a configured ProxyJump.
        config_path: the SSH configuration to honour; None for none.
        known_hosts: the only file of known host keys to consult; the default is what the SSH
            configuration says, else ``~/.ssh/known_hosts``, and ``/etc/ssh/ssh_known_hosts``.
        host_key_policy: ``strict`` refuses unknown hosts, ``accept-new`` remembers them,
            ``off`` verifies nothing. Both former refuse a changed key.
        connect_timeout_s: for the TCP connection, for the SSH handshake and for each login try.
        keepalive_s: a silent connection is kept open by a packet this often.
        otp_callback: answers what the server asks (a one-time password, say): gets
            ``user@host: <the server's prompt>``. It is called in another thread, and again
            whenever a dropped connection is opened anew.
    """

    host: str
    user: str | None = None
    port: int | None = None
    key_path: str | None = None
    password: str | None = field(default=None, repr=False)
    jump_host: str | tuple[str, ...] | None = None
    config_path: str | None = "~/.ssh/config"
    known_hosts: str | None = None
    host_key_policy: HostKeyPolicy = "strict"
    connect_timeout_s: float = 15.0
    keepalive_s: float = 30.0
    otp_callback: Callable[[str], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or any(c.isspace() for c in self.host):
            raise ValueError(f"SSH host {self.host!r} is not a host name or address")
        if self.user is not None and not _is_login_name(self.user):
            raise ValueError(f"SSH user {self.user!r} is not a login name")
        if self.port is not None and not 0 < self.port < 65536:
            raise ValueError(f"SSH port {self.port} is not between 1 and 65535")
        if self.host_key_policy not in get_args(HostKeyPolicy):
            allowed = ", ".join(get_args(HostKeyPolicy))
            raise ValueError(f"host_key_policy {self.host_key_policy!r} is not one of {allowed}")
        for name in ("connect_timeout_s", "keepalive_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0 seconds")

    @property
    def label(self) -> str:
        """``user1@edge``, or ``edge`` where the SSH configuration knows the user."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def jumps(self) -> tuple[str, ...] | None:
        """The jump hosts as a tuple, () for an explicit ``none``, None when not said."""
        if self.jump_host is None:
            return None
        given = self.jump_host.split(",") if isinstance(self.jump_host, str) else self.jump_host
        return parse_jumps(given)


def _is_login_name(text: str) -> bool:
    # ssh takes one with a dash for an option, and its configuration file drops quotes.
    return bool(text) and text[0] != "-" and not any(c.isspace() or c == '"' for c in text)


def parse_jumps(given: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Clean up a list of jump hosts; ``none`` means there are none."""
    jumps = tuple(jump.strip() for jump in given if jump.strip())
    return () if jumps == ("none",) else jumps


def parse_jump(text: str) -> tuple[str | None, str, int | None]:
    """``user@host:port``, ``[address]:port`` or ``ssh://…`` as (user, host, port).

    Raises ValueError when it is none of these.
    """
    user, at, place = text.removeprefix("ssh://").rstrip("/").rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host or (at and not user) or (port and not port.isdigit()):
        raise ValueError(f"jump host {text!r} is not of the form user@host:port")
    return user or None, host, int(port) if port else None

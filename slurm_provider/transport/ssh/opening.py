"""Open one SSH connection: reach the server, verify its key, log in."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import paramiko

from slurm_provider.transport.base import ConnectFailed, SocketLike, TransportError
from slurm_provider.transport.ssh import known_hosts
from slurm_provider.transport.ssh.endpoint import Endpoint
from slurm_provider.transport.ssh.login import log_in
from slurm_provider.transport.ssh_settings import SshSettings

OpenVia = Callable[[SshSettings, tuple[str, int]], SocketLike]

# paramiko logs tracebacks of failures that we report in a sentence. Whoever wants its log attaches
# a handler to this logger.
WIRE_LOG = "slurm_provider.transport.ssh.wire"
logging.getLogger(WIRE_LOG).addHandler(logging.NullHandler())
logging.getLogger(WIRE_LOG).propagate = False

_MISSED_KEEPALIVES = 3  # then the kernel gives a silent connection up
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass
class OpenedConnection:
    """A logged-in connection and the ProxyCommand it may run through."""

    client: paramiko.Transport
    program: _Program | None

    def close(self) -> None:
        self.client.close()
        if self.program is not None:
            self.program.end()


def open_connection(
    settings: SshSettings, endpoint: Endpoint, open_via: OpenVia
) -> OpenedConnection:
    """Connect to ``endpoint``. ``open_via`` opens a TCP connection through a jump host.

    Raises ConnectFailed, HostKeyRejected or AuthenticationFailed.
    """
    with contextlib.ExitStack() as undo:
        opened = _open(settings, endpoint, open_via, undo)
        undo.pop_all()
    return opened


def _open(
    settings: SshSettings, endpoint: Endpoint, open_via: OpenVia, undo: contextlib.ExitStack
) -> OpenedConnection:
    """The steps; what has to be undone if a later one fails goes to ``undo``."""
    program = None
    if endpoint.via is not None:
        raw = open_via(endpoint.via, (endpoint.host, endpoint.port))
    elif endpoint.proxy_command is not None:
        program = _Program(endpoint.proxy_command)
        undo.callback(program.end)
        raw = program.connection
    else:
        raw = _tcp(endpoint, settings)
    undo.callback(raw.close)
    client = paramiko.Transport(raw)  # type: ignore[arg-type]  # a socket or a channel
    undo.callback(client.close)
    client.set_log_channel(WIRE_LOG)
    client.banner_timeout = client.auth_timeout = settings.connect_timeout_s
    if settings.host_key_policy != "off":
        _prefer_known_key_types(client, endpoint)
    try:
        client.start_client(timeout=settings.connect_timeout_s)
        offered = client.get_remote_server_key()
    except (paramiko.SSHException, EOFError, OSError) as error:
        why = (program.complaints() if program else "") or error or "it closed the connection"
        raise ConnectFailed(
            f"{endpoint.label} gave no SSH handshake within {settings.connect_timeout_s:g} s "
            f"({why}): check that an SSH server listens there and lets this address in",
            transient=True,
        ) from error
    known_hosts.verify(
        known_hosts.HostKey(offered.get_name(), offered.get_base64()),
        *_identity(endpoint),
        endpoint.known_hosts,
        settings.host_key_policy,
    )
    try:
        log_in(client, endpoint, settings)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectFailed(
            f"the connection to {endpoint.label} broke during the login "
            f"({error or type(error).__name__}): try again",
            transient=True,
        ) from error
    client.set_keepalive(max(1, round(settings.keepalive_s)))
    return OpenedConnection(client, program)


class _Program:
    """A running ProxyCommand. The socket pair gives paramiko a real socket to read."""

    def __init__(self, command: str) -> None:
        self.connection, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # closed in end()
        with theirs:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._complaints,
                start_new_session=True,
            )

    def complaints(self) -> str:
        """The last lines the program wrote to standard error."""
        self._complaints.seek(0)
        text = self._complaints.read().decode("utf-8", "replace")
        return " / ".join(text.strip().splitlines()[-3:])

    def end(self) -> None:
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._complaints.close()


def _identity(endpoint: Endpoint) -> tuple[str, int]:
    """Host and port by which the server's key is known; an alias stands without a port."""
    if endpoint.host_key_alias:
        return endpoint.host_key_alias, 22
    return endpoint.host, endpoint.port


def _prefer_known_key_types(client: paramiko.Transport, endpoint: Endpoint) -> None:
    names = known_hosts.names_of(*_identity(endpoint))
    wanted: list[str] = []
    for kind in known_hosts.known_types(known_hosts.read(endpoint.known_hosts), names):
        wanted += _RSA_SIGNATURES if kind == "ssh-rsa" else (kind,)
    options = client.get_security_options()
    offered = list(options.key_types)
    options.key_types = [kind for kind in offered if kind in wanted] + [
        kind for kind in offered if kind not in wanted
    ]


def _tcp(endpoint: Endpoint, settings: SshSettings) -> socket.socket:
    address = (endpoint.host, endpoint.port)
    try:
        connection = socket.create_connection(address, settings.connect_timeout_s)
    except socket.gaierror as error:
        raise ConnectFailed(
            f"the SSH host name {endpoint.host!r} cannot be resolved ({error.strerror}): check "
            "its spelling, your network or VPN, and Host entries in the SSH configuration",
            transient=error.errno == socket.EAI_AGAIN,
        ) from error
    except TimeoutError as error:
        raise ConnectFailed(
            f"{endpoint.label} did not answer within {settings.connect_timeout_s:g} s: check "
            "your network or VPN, a firewall, and whether a jump_host is needed",
            transient=True,
        ) from error
    except OSError as error:
        raise ConnectFailed(
            f"{endpoint.host} port {endpoint.port} cannot be connected to "
            f"({error.strerror or error}): check host and port, and that its SSH server runs",
            transient=True,
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # paramiko sends keep-alives but waits for no answer: let the kernel notice that none is
    # acknowledged, so that calls on a dead connection fail instead of waiting for ever.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        limit_ms = int(settings.keepalive_s * _MISSED_KEEPALIVES * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)
    return connection


def lost(label: str, what: str, error: BaseException | None) -> TransportError:
    """The error for a connection that broke under an operation."""
    return TransportError(
        f"the connection to {label} dropped while {what}"
        f"{f' ({error})' if error is not None and str(error) else ''}; whether it had its effect "
        "is unknown",
        transient=True,
    )

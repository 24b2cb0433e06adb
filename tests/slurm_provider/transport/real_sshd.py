"""Start a real sshd on a high port of the loopback, with keys of its own, and end it by pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SSHD = "/usr/sbin/sshd"
USER = pwd.getpwuid(os.getuid()).pw_name


def eventually(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """Poll until the condition holds; fail after the deadline."""
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass
class Sshd:
    """A server process that is ended by its pid."""

    folder: Path
    authorized_key: Path
    extra_config: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def known_hosts_line(self) -> str:
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        if not self.host_key.exists():
            make_key(self.host_key)
        authorized = self.folder / "authorized_keys"
        shutil.copy(f"{self.authorized_key}.pub", authorized)
        self.port = self.port or free_port()
        subsystem = "" if "Subsystem" in self.extra_config else "Subsystem sftp internal-sftp"
        config = self.folder / "sshd_config"
        config.write_text(
            f"{self.extra_config}\n"
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nMaxStartups 200\n{subsystem}\n"
        )
        with open(self.folder / "sshd.log", "ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers)

    def stop(self) -> None:
        if self.process is not None:
            self.drop_connections()
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def drop_connections(self) -> None:
        """Kill the server's end of every connection."""
        for pid in [pid for connection in self.connections() for pid in servers(connection)]:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)

    def connections(self) -> list[int]:
        """The pids of the processes that serve one connection each."""
        assert self.process is not None
        return _children(self.process.pid)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def servers(connection: int) -> list[int]:
    """The processes of sshd that serve a connection; OpenSSH 10 has two even for root."""
    below = [pid for child in _children(connection) for pid in servers(child)]
    return [connection, *below] if _program(connection).startswith("sshd") else []


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _program(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""

"""An sshd of one test's own on the sandbox's edge node: whoever came through it sees an edge node
that reboots, and nobody else does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from slurm_provider.agent.processes import descendants
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import RunningSandbox, wait_for


class OwnSshd:
    """Like the sandbox's, on another port. Who starts it ends it."""

    def __init__(self, sandbox: RunningSandbox, folder: Path) -> None:
        edge, sandbox_s = sandbox.info["edge"], Path(sandbox.info["data_dir"]) / "ssh/sshd_config"
        self.address = edge["address"]
        with socket.create_server((self.address, 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self._config, known_hosts = folder / "own_sshd_config", folder / "own_known_hosts"
        listen = f"ListenAddress {self.address}:{self.port}"
        text, found = re.subn("ListenAddress .*", listen, sandbox_s.read_text())
        assert found == 1
        self._config.write_text(text)
        of_sandbox = Path(sandbox.info["known_hosts"]).read_text()
        known_hosts.write_text(of_sandbox.replace(f":{edge['ssh_port']}", f":{self.port}"))
        self.section: dict[str, Any] = {
            **ssh_section(sandbox),
            "port": self.port,
            "known_hosts": str(known_hosts),
        }
        self._log = folder / "own_sshd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def reboot(self, down_s: float) -> None:
        """Nothing that came through it lives on, and nobody is told; then it is there again."""
        self.end()
        time.sleep(down_s)
        self.start()

    def start(self) -> None:
        program = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
        assert program is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self._config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._listens)

    def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGSTOP)  # no new ones while the others are killed
        for pid in [*descendants(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

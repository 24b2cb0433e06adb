"""The program around a payload, beside it on the cluster: keeps what it prints and how it ended.

``python job_main.py -- command...``, in a run folder (see :mod:`.run_folder`), which it writes to:

- ``stdout.log`` and ``stderr.log``: the payload's streams, also copied to its own, which are Ray's
  log. ``run.log``: both, for people.
- ``status.jsonl``: one line when the payload starts, one when it has ended, with its exit code and
  with the sizes of the other files. So a reader knows when it has read everything, and how it
  ended even when Ray is gone.

Runs by the cluster's Python, whatever its version: standard library only. Files are flushed to the
server every second, because an NFS client keeps what is written for up to half a minute.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Any

from memory_kills import memory_kills  # type: ignore[import-not-found]  # beside it, when it runs

_FLUSH_S = 1.0
_STRAGGLERS_S = 5.0  # for what the payload left behind to close its output
_CHUNK = 65536


def main(argv: list[str]) -> int:
    folder = os.path.dirname(os.path.abspath(__file__))
    command = argv[argv.index("--") + 1 :]
    with open(os.path.join(folder, "job.json")) as file:
        job = json.load(file)
    # Ray sends SIGTERM to every process of the job. The payload decides what it does then.
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    kills = memory_kills()
    log = _Files(folder, ("run.log", "stdout.log", "stderr.log"))
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, **job["env"]),
            cwd=os.path.join(folder, job["cwd"]) if job["cwd"] else None,
        )
    except OSError as error:
        log.write("stderr.log", f"{command[0]} cannot be started: {error}\n".encode(), 2)
        _status(
            folder, log, event="ended", exit_code=127, signal=None, oom_kills=0, was_stopped=False
        )
        return 127
    _status(folder, log, event="started", pid=child.pid, host=socket.gethostname())
    pumps = [
        threading.Thread(target=_pump, args=(child.stdout, log, "stdout.log", 1), daemon=True),
        threading.Thread(target=_pump, args=(child.stderr, log, "stderr.log", 2), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    threading.Thread(target=_flush_often, args=(log,), daemon=True).start()
    code = child.wait()
    deadline = time.monotonic() + _STRAGGLERS_S
    for pump in pumps:
        pump.join(max(0.0, deadline - time.monotonic()))
    log.flush()
    after = memory_kills()
    _status(
        folder,
        log,
        event="ended",
        exit_code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        oom_kills=max(0, after - kills),
        was_stopped=bool(signals),
    )
    return code if code >= 0 else 128 - code


class _Files:
    """Log files that never stop the payload: a full disk ends the copy, not the job."""

    def __init__(self, folder: str, names: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._files = {name: open(os.path.join(folder, name), "ab", 0) for name in names}
        self._dirty = False
        self._failed = False

    def write(self, name: str, data: bytes, descriptor: int) -> None:
        with self._lock:
            if not self._failed:
                try:
                    _write_all(self._files[name].fileno(), data)
                    _write_all(self._files["run.log"].fileno(), data)
                    self._dirty = True
                except OSError as error:
                    self._failed = True
                    note = f"the log is not kept any further in {self._files[name].name}: {error}\n"
                    data += note.encode()
            try:
                _write_all(descriptor, data)
            except OSError:
                pass

    def flush(self) -> None:
        with self._lock:
            dirty, self._dirty = self._dirty, False
            files = list(self._files.values())
        for file in files if dirty else ():
            try:
                os.fsync(file.fileno())
            except OSError:
                pass


def _pump(stream: IO[bytes], log: _Files, name: str, descriptor: int) -> None:
    while True:
        data = os.read(stream.fileno(), _CHUNK)
        if not data:
            return
        log.write(name, data, descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _flush_often(log: _Files) -> None:
    while True:
        time.sleep(_FLUSH_S)
        log.flush()


def _status(folder: str, log: _Files, **values: Any) -> None:
    sizes = {}
    for name in ("messages.jsonl", "stdout.log", "stderr.log"):
        try:
            sizes[name] = os.path.getsize(os.path.join(folder, name))
        except OSError:
            pass
    line = json.dumps(dict(values, time=time.time(), sizes=sizes)) + "\n"
    try:
        with open(os.path.join(folder, "status.jsonl"), "a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        log.write("stderr.log", f"cannot write status.jsonl: {error}\n".encode(), 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""Files to a node and back: one tar stream over a command's standard input or output.

``start`` begins a shell command on the node and returns its process, whose ``wait`` raises
Unfinished where the command was cut short.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from typing import Any

from slurm_provider.command_end import Unfinished
from slurm_provider.errors import ClusterError
from slurm_provider.excludes import Excludes
from slurm_provider.transport import Process

_CHUNK = 1 << 20
_ENDS_S = 600.0

Start = Callable[[str], Process]


def upload(start: Start, source: str, target: str, excludes: Excludes) -> None:
    """Copy a file, or a folder's content but for ``excludes``, to ``target`` on the node.

    Raises ClusterError; what was copied before it stays.
    """
    _check_source(source)
    folder = target if os.path.isdir(source) else os.path.dirname(target) or "."
    what = f"copying {source} to {target}"
    process = start(f"mkdir -p {quoted(folder)} && tar -x -f - -C {quoted(folder)}")
    try:
        _pack(source, target, excludes, process.stdin)
        process.stdin.close()
    except OSError as error:
        if error.filename is not None:
            process.terminate()
            raise ClusterError(
                f"{what} failed: {error.filename} cannot be read on this machine "
                f"({error.strerror}); mend that, or leave it out by rsync_exclude"
            ) from None
        with contextlib.suppress(OSError):
            process.stdin.close()
        _finish(process, what)  # the other side has ended, and says why
        raise ClusterError(f"{what} failed: {error}") from None
    _finish(process, what)


def download(start: Start, source: str, target: str) -> None:
    """Copy a file, or a folder's content, from the node to ``target`` here. Raises ClusterError."""
    # One letter says what it is; of a folder the content is wanted, not the folder itself.
    command = (
        f'p={quoted(source)}; if [ -d "$p" ]; then printf d; tar -c -f - -C "$p" .; '
        f'else tar -c -f /dev/null "$p" && printf f && '
        f'tar -c -f - -C "$(dirname "$p")" "$(basename "$p")"; fi'
    )
    what = f"copying {source} to {target}"
    _check_target(target)
    process = start(command)
    kind = process.stdout.read(1)
    if not kind:
        _finish(process, what)
        raise ClusterError(f"{what} failed: nothing came; run it again")
    into_folder = kind == b"d" or os.path.isdir(target) or target.endswith("/")
    parent = target if into_folder else os.path.dirname(os.path.abspath(target))
    os.makedirs(parent, exist_ok=True)
    if into_folder:
        _take(process, parent, what)
    else:
        with tempfile.TemporaryDirectory(dir=parent) as scratch:
            _take(process, scratch, what)
            os.replace(os.path.join(scratch, os.path.basename(source)), target)


def quoted(path: str) -> str:
    """For the shell, where a leading ``~/`` still means the home folder."""
    if path == "~":
        return '"$HOME"'
    if path.startswith("~/"):
        return '"$HOME"/' + shlex.quote(path[2:])
    return shlex.quote(path)


def _check_source(path: str) -> None:
    if not os.access(path, os.R_OK):
        why = "cannot be read" if os.path.exists(path) else "does not exist"
        raise ClusterError(f"{path} {why} on this machine, so nothing was copied")


def _check_target(path: str) -> None:
    folder = os.path.abspath(path if os.path.isdir(path) else os.path.dirname(path) or ".")
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ClusterError(
            f"{path} cannot be written on this machine: {folder} is no folder that you may write "
            "to, so nothing was copied"
        )


def _pack(source: str, target: str, excludes: Excludes, pipe: Any) -> None:
    stays_behind = excludes.below(source)

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if stays_behind(info.name) else info

    with tarfile.open(fileobj=_Writer(pipe), mode="w|") as archive:
        if os.path.isdir(source):
            for name in sorted(os.listdir(source)):
                archive.add(os.path.join(source, name), name, filter=kept)
        else:
            archive.dereference = True  # a link would lead nowhere there
            archive.add(source, os.path.basename(target))


def _take(process: Process, folder: str, what: str) -> None:
    """Extract what the process sends; its end says more than that of a tar without the rest."""
    code = _extract(process.stdout, folder)
    _finish(process, what)
    if code != 0:
        raise ClusterError(f"{what} failed: tar ended with exit code {code}")


def _extract(stream: Any, folder: str) -> int:
    """Feed a tar stream to `tar`, which refuses paths that lead out of the folder; its exit
    code."""
    process = subprocess.Popen(
        ["tar", "-x", "-f", "-", "-C", folder, "--no-same-owner"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    with process.stdin:
        while chunk := stream.read1(_CHUNK):
            process.stdin.write(chunk)
    return process.wait()


def _finish(process: Process, what: str) -> None:
    try:
        code = process.wait(_ENDS_S)
    except Unfinished as error:
        raise error.of(what) from None
    if code != 0:
        raise ClusterError(f"{what} failed (exit code {code}): {process.stderr_tail.strip()}")


class _Writer(io.RawIOBase):
    """A pipe as the file that tarfile writes to."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pipe.write(bytes(data))
        return len(data)

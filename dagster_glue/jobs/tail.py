"""Reading growing files by byte offset, several at once, with one command per look.

A look is a whole command: nothing has to survive a cut connection but the offsets, and files are
opened anew each time, which is what makes an NFS client ask the server for their size.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence

from dagster_glue.scripts import shell_script
from slurm_provider.transport import CommandTimeout, Transport, TransportError

_TIMEOUT_S = 30.0  # a look that hangs in a dead connection hides what comes meanwhile
_CHUNK_BYTES = 4 * 1024 * 1024
_MIN_CHUNK_BYTES = 64 * 1024
_MISSING = 3  # exit code of look.sh


class FolderMissing(TransportError):
    """The folder above is there, and this one is not in it; a file system may show it late."""


class Tail:
    """New bytes of files in one folder, each byte once."""

    def __init__(self, transport: Transport, folder: str, names: Sequence[str]) -> None:
        self._transport = transport
        self._folder = folder
        self._names = tuple(names)
        self._chunk = _CHUNK_BYTES
        self.offsets = dict.fromkeys(self._names, 0)

    def look(self, wait_s: float = 0.0, pause_s: float = 0.1) -> dict[str, bytes]:
        """What came since the last look, at most some MiB a file; waits up to ``wait_s`` seconds
        for it, asking for the files' sizes every ``pause_s``. Raises TransportError.

        After an error nothing is lost: the next look starts where the last good one ended.
        """
        rounds = math.ceil(wait_s / pause_s)
        argv = ["sh", "-c", shell_script("look.sh"), "sh", self._folder, str(self._chunk),
                str(rounds), f"{pause_s:.2f}"]  # fmt: skip
        for name in self._names:
            argv += [name, str(self.offsets[name])]
        try:
            done = self._transport.run(argv, timeout_s=_TIMEOUT_S)
        except CommandTimeout:
            self._chunk = max(_MIN_CHUNK_BYTES, self._chunk // 4)
            raise
        lines = done.stdout.splitlines()
        if done.returncode != 0 or len(lines) != len(self._names):
            error = FolderMissing if done.returncode == _MISSING else TransportError
            raise error(
                f"{self._folder} on {self._transport.label} cannot be read: "
                f"{done.stderr.strip() or f'exit code {done.returncode}'}",
                transient=True,
            )
        found = {}
        for name, line in zip(self._names, lines, strict=True):
            encoded, _, _ = line.rpartition(" ")
            try:
                found[name] = base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                raise TransportError(f"reading {name}: {error}", transient=True) from None
        for name, data in found.items():
            self.offsets[name] += len(data)
        return found

    def is_at(self, sizes: dict[str, int]) -> bool:
        """Whether everything up to these sizes was read; files that are not read do not count."""
        return all(self.offsets[n] >= size for n, size in sizes.items() if n in self.offsets)

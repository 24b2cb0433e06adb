"""Packed environments on the cluster's shared file system: each uploaded once, old ones removed."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import BinaryIO

from dagster_glue.environment.base import EnvironmentFailed, Log
from dagster_glue.shared_lock import kept_alive, lock_functions, new_token
from slurm_provider import own_folder
from slurm_provider.transport import Transport, TransportError

FOLDER = "env-cache"
LOCK_EXPIRY_S = 120
"""A lock that nobody touched for so long belonged to a process that is gone."""
KEEP_DAYS = 30
"""An environment that no run asked for in this time is removed when another one is added."""

_TIMEOUT_S = 60.0
_FLUSH_TIMEOUT_S = 600.0  # the far end of a big upload on a busy file system
_COLLECT_TIMEOUT_S = 600.0
_POLL_S = 2.0
_UPLOAD_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 20
_MIB = 1 << 20


@dataclass(frozen=True)
class ArchiveCache:
    """The archives below ``base_dir``, as ``transport`` sees it."""

    transport: Transport
    base_dir: str
    log: Log
    lock_expiry_s: int = LOCK_EXPIRY_S
    poll_s: float = _POLL_S

    @property
    def folder(self) -> str:
        return f"{self.base_dir.rstrip('/')}/{FOLDER}"

    def obtain(
        self, key: str, name: str, pack: Callable[[str], None], *, force: bool = False
    ) -> str:
        """The absolute path of archive ``name`` of content ``key``.

        If it is not there, ``pack`` writes it to a local path and it is uploaded, by one process
        at a time; the others wait. Raises what ``pack`` raises, EnvironmentFailed, and
        TransportError when the other side cannot be reached.
        """
        token = new_token()
        waiting = False
        while True:
            answer = self._ask(
                "claim", key, name, token, str(self.lock_expiry_s), "yes" if force else "no"
            )
            if answer == "ready":
                return f"{self.folder}/{key}/{name}"
            if answer == "claimed":
                if self._pack_and_upload(key, name, token, pack):
                    self._collect()
                    return f"{self.folder}/{key}/{name}"
                continue  # the lock was lost on the way: whoever took it packs
            if not waiting:
                self.log(f"Another process packs environment {key}; waiting for it")
                waiting = True
            force = False  # what the other one packs is as new
            time.sleep(self.poll_s)

    def _pack_and_upload(
        self, key: str, name: str, token: str, pack: Callable[[str], None]
    ) -> bool:
        try:
            with (
                kept_alive(lambda: self._is_renewed(key, token), self.lock_expiry_s) as is_ours,
                tempfile.TemporaryDirectory(prefix="ray-slurm-pack-") as scratch,
            ):
                archive = os.path.join(scratch, name)
                self.log(f"Packing environment {key}")
                started = time.monotonic()
                pack(archive)
                size = os.path.getsize(archive)
                self.log(
                    f"Packed {size / _MIB:.0f} MiB in {time.monotonic() - started:.0f} s; "
                    f"uploading to {self.transport.label}"
                )
                started = time.monotonic()
                self._upload(archive, f"{self.folder}/.{key}.{token}.part", size)
                if not is_ours():
                    return False
                answer = self._ask("publish", key, name, token, str(size))
                if answer != "published":
                    raise EnvironmentFailed(
                        f"uploading environment {key} to {self.folder} on {self.transport.label} "
                        f"left {answer.partition(' ')[2]} of {size} bytes there; check the disk "
                        "space and quota"
                    )
                self.log(f"Uploaded in {time.monotonic() - started:.0f} s")
                return True
        except BaseException:
            self._release(key, token)
            raise

    def _upload(self, archive: str, part: str, size: int) -> None:
        for attempt in range(1, _UPLOAD_ATTEMPTS + 1):
            try:
                with open(archive, "rb") as source:
                    return self._send(source, part)
            except TransportError as error:
                if not error.transient or attempt == _UPLOAD_ATTEMPTS:
                    raise
                self.log(f"The upload of {size / _MIB:.0f} MiB broke off ({error}); once more")

    def _send(self, source: BinaryIO, part: str) -> None:
        process = self.transport.popen(["dd", f"of={part}", "bs=1M", "iflag=fullblock"])
        try:
            while data := source.read(_CHUNK_BYTES):
                process.stdin.write(data)
            process.stdin.flush()
            process.stdin.close()
        except OSError as error:
            process.terminate()
            code = process.wait(_TIMEOUT_S)
            raise self._refused(part, code, process.stderr_tail) from error
        while process.stdout.read1(_CHUNK_BYTES):
            pass
        code = process.wait(_FLUSH_TIMEOUT_S)
        if code != 0:
            raise self._refused(part, code, process.stderr_tail)

    def _refused(self, part: str, code: int, words: str) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"{part} on {self.transport.label} cannot be written (exit code {code}: "
            f"{words.strip()[-300:]}); check the folder's rights, the disk space and quota"
        )

    def _is_renewed(self, key: str, token: str) -> bool:
        return self._ask("renew", key, token) == "renewed"

    def _release(self, key: str, token: str) -> None:
        try:
            self._ask("release", key, token)
        except (EnvironmentFailed, TransportError):
            pass  # it expires

    def _collect(self) -> None:
        try:
            removed = self._ask("collect", str(KEEP_DAYS), timeout_s=_COLLECT_TIMEOUT_S)
        except (EnvironmentFailed, TransportError) as error:
            self.log(f"Old environments were not removed: {error}")
            return
        for line in removed.splitlines():
            self.log(f"Environment {line.split()[-1]}, unused for {KEEP_DAYS} days, was removed")

    def _ask(self, action: str, *arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
        own = files("dagster_glue.environment").joinpath("scripts/cache.sh").read_bytes()
        script = lock_functions() + own_folder.script() + own
        done = self.transport.run(
            ["sh", "-s", "--", self.folder, action, *arguments], stdin=script, timeout_s=timeout_s
        )
        if done.returncode != 0:
            raise EnvironmentFailed(
                f"the environment cache {self.folder} on {self.transport.label} cannot be used "
                f"(exit code {done.returncode}: {done.stderr.strip()[-300:]}); check the folder's "
                "rights, the disk space and quota"
            )
        return done.stdout.strip()

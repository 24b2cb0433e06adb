"""Starting a step's job exactly once, or finding the one that an earlier attempt started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dagster._core.pipes.context import PipesSession

from dagster_glue.clusters.base import ClusterAccess, ClusterGone
from dagster_glue.jobs.client import (
    AlreadySubmitted,
    JobRecord,
    JobsApi,
    JobUnknown,
    LogUnreadable,
)
from dagster_glue.jobs.driver_package import driver_package, takes_packages
from dagster_glue.jobs.errors import JobRefused, PayloadError
from dagster_glue.jobs.lineage import Context, attempts
from dagster_glue.jobs.link import JobsLink, Outage
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.remains import Remains, remains_of
from dagster_glue.jobs.request import driver_environment, job_request
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.source import was_closed_in_folder, was_closed_in_log
from dagster_glue.jobs.step import is_direct, next_call
from dagster_glue.jobs.submission import (
    Choice,
    choose,
    free_id,
    numbered,
    payload_digest,
    submission_id,
)
from slurm_provider.transport import TransportError

_POLL_S = 0.2
_T = TypeVar("_T")


class Launch:
    """One call's job. Waits through outages; ``check`` may end the wait by raising."""

    def __init__(
        self,
        cluster: ClusterAccess,
        context: Context,
        payload: Payload,
        package_uri: str | None,
        extras: Mapping[str, Any],
        options: RunOptions,
        link: JobsLink,
        check: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._context = context
        self._payload = payload
        self._package_uri = package_uri
        self._options = options
        self._link = link
        self._check = check
        self._call = next_call(context)
        self._extras = extras
        self._digest = payload_digest(payload, package_uri, extras)
        self.may_exist = False
        """Whether there may be a job of ours, whatever was answered."""

    def find(self) -> tuple[str, bool]:
        """The job's name, and whether it is there already, to be gone on with."""
        taken: list[str] = []
        calls = () if is_direct(self._context) else attempts(self._context, self._call)
        for call in calls:
            for candidate, found in self._found(submission_id(call)):
                taken.append(candidate)
                if isinstance(found, Remains):
                    choice = found.choice(self._digest, strict=self._options.strict)
                else:
                    complete = self._is_complete(found)
                    choice = choose(found, self._digest, is_complete=complete)
                if choice is Choice.ADOPT:
                    self.may_exist = isinstance(found, JobRecord)
                    return candidate, True
                if choice is Choice.REPLACE:
                    self._context.log.info(
                        f"Ray job {candidate} of an earlier attempt still runs other code: "
                        "stopping it"
                    )
                    self.stop(candidate)
        return free_id(self._call, taken), False

    def start(
        self, name: str, folder: RunFolder | None, session: PipesSession, package: str
    ) -> None:
        """Send everything and submit. Raises JobRefused, ClusterGone, PayloadError."""
        env = driver_environment(
            session.get_bootstrap_env_vars(), all_worker_logs=self._options.all_worker_logs
        )
        script = None
        if folder is not None and self._payload.is_one_script:
            (script,) = self._payload.files.values()
        package_uri = self._package_uri if script is None else None
        driver_uri, driver_data = None, b""
        if folder is None and takes_packages(self._payload.runtime_env):
            driver_uri, driver_data = driver_package(env)
        elif folder is None and self._extras:
            raise PayloadError(
                "extras cannot reach a payload in a container (runtime_env) without a shared file "
                "system: Ray takes nothing beside it that other users cannot read"
            )
        request = job_request(
            name, self._payload, self._call, self._digest,
            package_uri=package_uri, folder=folder, driver_uri=driver_uri, env=env,
            entrypoint=self._options.entrypoint,
        )  # fmt: skip
        self._check_version()
        if folder is not None:
            self._prepare(folder, session, env, script)
        if package_uri is not None:
            self._upload(package_uri, lambda: Path(package).read_bytes())
        if driver_uri is not None:
            self._upload(driver_uri, lambda: driver_data)
        self.may_exist = True
        try:
            self._insist(_doing(lambda api: api.submit(request)))
        except AlreadySubmitted:
            pass  # the answer to an earlier try was lost
        self._context.log.info(f"Ray job {name} submitted to cluster {self._cluster.cluster_id}")

    def folder(self, name: str) -> RunFolder | None:
        """The job's run folder; None where no file system is shared."""
        work_dir = self._cluster.work_dir()
        if work_dir is None:
            return None
        return RunFolder(self._cluster.transport(), work_dir, name, self._cluster.directory)

    def stop(self, name: str) -> bool:
        """Ask for the end and wait for it, within bounds; False if it did not come."""
        deadline = time.monotonic() + self._options.stop_timeout_s
        is_asked = False
        while time.monotonic() < deadline:
            try:
                if not is_asked:
                    is_asked = self._link.attempt(_doing(lambda api: api.stop(name))) is not None
                record = self._link.attempt(lambda api: api.job(name)) if is_asked else None
            except (JobUnknown, ClusterGone):
                return True
            if record is not None and record.is_terminal:
                return True
            time.sleep(_POLL_S)
        return False

    def _check_version(self) -> None:
        expected = self._options.ray_version
        if expected is None:
            return
        found = self._insist(lambda api: api.ray_version())
        if found == expected:
            return
        words = (
            f"RayLauncher.ray_version is {expected}, the Ray of cluster {self._cluster.cluster_id} "
            f"is {found}: change one of the two"
        )
        if self._options.require_ray_version:
            raise JobRefused(words)
        self._context.log.warning(f"{words} (with require_ray_version=True this is an error)")

    def _found(self, name: str) -> Iterator[tuple[str, JobRecord | Remains]]:
        """The job of this name, and those that had to be numbered on: as Ray tells them, or by
        their run folders where it does not know them."""
        for candidate in numbered(name):
            found = self._record(candidate) or self._remains(candidate)
            if found is None:
                return
            yield candidate, found

    def _remains(self, name: str) -> JobRecord | Remains | None:
        folder = self.folder(name)
        if folder is None:
            return None
        remains = self._patiently(folder, partial(remains_of, folder))
        if remains is not None and remains.exit_code is None:
            # It may have been on its way to Ray a moment ago; what has started is known there.
            return self._record(name) or remains
        return remains

    def _record(self, name: str) -> JobRecord | None:
        try:
            return self._insist(lambda api: api.job(name))
        except JobUnknown:
            return None

    def _is_complete(self, record: JobRecord) -> bool:
        """Whether a job that succeeded closed Pipes; asked only where it decides."""
        if record.status != "SUCCEEDED" or not self._options.strict:
            return True
        folder = self.folder(record.submission_id)
        if folder is None:
            try:
                return was_closed_in_log(self._insist(lambda api: api.log(record)))
            except LogUnreadable:
                return False  # for all that can be known

        def has_closed() -> bool:
            folder.transport.list_dir(folder.path)
            return was_closed_in_folder(folder)

        try:
            return self._patiently(folder, has_closed)
        except FileNotFoundError:
            return False  # the folder is gone, and its messages with it

    def _prepare(
        self, folder: RunFolder, session: PipesSession, env: Mapping[str, str], script: str | None
    ) -> None:
        context_data = dict(session.context_data)

        def prepare() -> bool:
            folder.prepare(context_data, env, script, digest=self._digest)
            return True

        self._patiently(folder, prepare)

    def _patiently(self, folder: RunFolder, act: Callable[[], _T]) -> _T:
        outage = Outage(f"the file system ({folder.transport.label})", self._context.log.warning)
        while True:
            self._check()
            try:
                return act()
            except TransportError as error:
                if not error.transient:
                    raise
                outage.failed(error)
            outage.wait(self._check)

    def _upload(self, uri: str, read: Callable[[], bytes]) -> None:
        if not self._insist(lambda api: (api.has_package(uri),))[0]:
            data = read()
            self._insist(_doing(lambda api: api.put_package(uri, data)))

    def _insist(self, ask: Callable[[JobsApi], _T]) -> _T:
        return self._link.insist(ask, self._check)


def _doing(act: Callable[[JobsApi], None]) -> Callable[[JobsApi], bool]:
    """As a question, whose answer is that it was done."""

    def ask(api: JobsApi) -> bool:
        act(api)
        return True

    return ask

"""One payload of one step as a Ray job: submitted once, followed to its end, judged."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dagster import (
    DagsterExecutionInterruptedError,
    Failure,
    MetadataValue,
    PipesContextInjector,
    open_pipes_session,
)
from dagster._core.pipes.context import PipesSession

from dagster_glue.clusters.base import ClusterAccess, ClusterGone
from dagster_glue.clusters.worker_news import telling_of_workers
from dagster_glue.jobs.errors import JobRefused
from dagster_glue.jobs.follow import End, Follower
from dagster_glue.jobs.launch import Launch
from dagster_glue.jobs.lineage import Context
from dagster_glue.jobs.link import MAY_PASS, JobsLink
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.outcome import (
    Evidence,
    FailureKind,
    JobOutcome,
    PipesReport,
    judge,
    kind_of_loss,
    lacks_a_cause,
    was_ended_from_outside,
)
from dagster_glue.jobs.output import DriverOutput
from dagster_glue.jobs.package import build_package
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.source import Ended, FolderSource, LogSource, Source
from dagster_glue.jobs.step import CancelWatch, StepCancelled
from dagster_glue.pipes.reader import GivenContext, RunMessageReader
from slurm_provider.fleet.ledger import Node

_HEAD_ENDS_S = 40.0  # Slurm's KillWait is 30 s by default
_LOOK_AGAIN_S = 1.0
_NODES_REPORT_S = 3.0  # a node looks every second


@dataclass(frozen=True)
class FinishedJob:
    """A job that is over, and the session with what it reported."""

    session: PipesSession
    outcome: JobOutcome

    def failure(self) -> Failure | None:
        """What the step has to raise; None after a success."""
        outcome = self.outcome
        if outcome.kind is None:
            return None
        metadata: dict[str, Any] = {
            "failure_kind": outcome.kind.value,
            "ray_submission_id": outcome.submission_id,
        }
        if outcome.ray_job_id:
            metadata["ray_job_id"] = outcome.ray_job_id
        if outcome.log_path:
            metadata["run_log"] = MetadataValue.path(outcome.log_path)
        return Failure(f"[{outcome.kind.value}] {outcome.message}", metadata=metadata)


def run_job(
    cluster: ClusterAccess,
    *,
    context: Context,
    payload: Payload,
    extras: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
) -> FinishedJob:
    """Run a payload and wait for its end, however long that takes and whatever link is down.

    A job that an earlier attempt of this step started is gone on with if it runs or succeeded.
    A cancelled Dagster run stops the job; any other interruption leaves it running.

    Raises PayloadError for a payload that cannot be sent, TransportError where the run folder
    cannot be made; a failed job is an outcome, see :meth:`FinishedJob.failure`.
    """
    with tempfile.TemporaryDirectory(prefix="dagster-glue-") as scratch:
        package = os.path.join(scratch, "package.zip")
        uri = build_package(payload, package)
        run = _Run(cluster, context, payload, uri, dict(extras or {}), options or RunOptions())
        try:
            return run.run(package)
        finally:
            run.link.close()


class _Run:
    def __init__(
        self,
        cluster: ClusterAccess,
        context: Context,
        payload: Payload,
        package_uri: str | None,
        extras: dict[str, Any],
        options: RunOptions,
    ) -> None:
        self._cluster = cluster
        self._context = context
        self._extras = extras
        self._options = options
        self._watch = CancelWatch(context)
        self._output = DriverOutput(context.log.info if options.log_events else None)
        self.link = JobsLink(cluster, context.log.warning)
        self._launch = Launch(
            cluster, context, payload, package_uri, extras, options, self.link, self._watch.check
        )

    def run(self, package: str) -> FinishedJob:
        name, is_adopted = self._find()
        folder = self._launch.folder(name)
        reader = _reader(folder)
        injector = _injector(folder)
        with open_pipes_session(self._context, injector, reader, self._extras) as session:
            with self._stopping_if_cancelled(name):
                if is_adopted:
                    self._context.log.info(f"going on with Ray job {name} of an earlier attempt")
                else:
                    try:
                        self._launch.start(name, folder, session, package)
                    except (JobRefused, ClusterGone) as error:
                        self._mark_over(folder, succeeded=False)
                        return FinishedJob(session, self._not_started(name, error))
                source = self._source(name, folder, reader)
                end = self._follow(name, source)
            outcome = self._judge(name, folder, reader, source.ended, end, is_adopted)
        self._mark_over(folder, succeeded=outcome.succeeded)
        return FinishedJob(session, outcome)

    def _mark_over(self, folder: RunFolder | None, *, succeeded: bool) -> None:
        if folder is None:
            return
        try:
            folder.finish(succeeded=succeeded)
        except MAY_PASS as error:
            self._context.log.warning(f"{folder.path} could not be marked as over: {error}")

    def _find(self) -> tuple[str, bool]:
        try:
            return self._launch.find()
        except StepCancelled:
            raise DagsterExecutionInterruptedError() from None

    def _source(self, name: str, folder: RunFolder | None, reader: RunMessageReader) -> Source:
        if folder is None:
            return LogSource(self.link, name, reader, self._output, self._context.log.warning)
        return FolderSource(folder, reader, self._output)

    def _follow(self, name: str, source: Source) -> End:
        log = self._context.log
        with telling_of_workers(self._cluster, log.info, log.warning):
            return Follower(
                self._cluster,
                self.link,
                name,
                source,
                check=self._watch.check,
                say=log.warning,
            ).follow()

    @contextmanager
    def _stopping_if_cancelled(self, name: str) -> Iterator[None]:
        try:
            yield
        except StepCancelled:
            self._cancel(name)
            raise DagsterExecutionInterruptedError() from None
        except (DagsterExecutionInterruptedError, KeyboardInterrupt):
            if self._watch.was_cancelled():
                self._cancel(name)
            elif self._launch.may_exist:
                self._context.log.warning(
                    f"this step is interrupted, but its run was not cancelled: Ray job {name} on "
                    f"cluster {self._cluster.cluster_id} goes on, and so does a retry with it"
                )
            raise

    def _cancel(self, name: str) -> None:
        if not self._launch.may_exist:
            return
        self._context.log.info(f"the run was cancelled: stopping Ray job {name}")
        if not self._launch.stop(name):
            self._context.log.error(
                f"Ray job {name} on cluster {self._cluster.cluster_id} has not ended within "
                f"{self._options.stop_timeout_s:g} s; `ray job stop {name}` asks again"
            )
        self._mark_over(self._launch.folder(name), succeeded=False)

    def _judge(
        self,
        name: str,
        folder: RunFolder | None,
        reader: RunMessageReader,
        ended: Ended | None,
        end: End,
        is_adopted: bool,
    ) -> JobOutcome:
        record, nodes = end.record, self._nodes(end, ended)
        pipes = PipesReport(
            reader.has_opened, reader.has_closed, tuple(reader.problems), reader.exception
        )
        evidence = Evidence(
            record, ended, pipes, end.lost, end.is_cluster_gone, nodes, self._output.tail()
        )
        if lacks_a_cause(evidence):
            time.sleep(_NODES_REPORT_S)
            evidence = replace(evidence, nodes=self._nodes(End(record), ended))
        status, kind, message = judge(evidence, strict=self._options.strict)
        return JobOutcome(
            status=status,
            kind=kind,
            message=message,
            submission_id=name,
            ray_job_id=record.ray_job_id if record else None,
            started=record.started if record else None,
            ended=(record.ended if record else None) or (ended.time if ended else None),
            exit_code=ended.exit_code if ended else (record.exit_code if record else None),
            log_path=folder.log_path if folder else None,
            ray_logs_path=folder.ray_logs_path if folder else None,
            was_adopted=is_adopted,
            ran_elsewhere=is_adopted and not self._launch.may_exist,
        )

    def _not_started(self, name: str, error: Exception) -> JobOutcome:
        if isinstance(error, JobRefused):
            return JobOutcome("failed", FailureKind.REFUSED, str(error), name)
        kind = kind_of_loss(self._nodes(End(None), None), is_cluster_gone=True)
        return JobOutcome("lost", kind, f"before the job started: {error}", name)

    def _nodes(self, end: End, ended: Ended | None) -> list[Node]:
        """By Slurm's word, where that may explain a failure."""
        nodes = list(end.nodes)
        if nodes or (end.record is not None and end.record.status != "FAILED"):
            return nodes
        # Slurm ends the payload first; the head's job may be seconds from its own end.
        is_due = end.record is None and was_ended_from_outside(ended)
        deadline = time.monotonic() + (_HEAD_ENDS_S if is_due else 0)
        try:
            while True:
                nodes = self._cluster.evidence()
                heads = [node for node in nodes if node.kind == "head"]
                if not heads or any(node.ended for node in heads) or time.monotonic() >= deadline:
                    return nodes
                self._watch.check()
                time.sleep(_LOOK_AGAIN_S)
        except MAY_PASS as error:
            self._context.log.warning(f"Slurm does not say how the nodes ended: {error}")
            return nodes


def _reader(folder: RunFolder | None) -> RunMessageReader:
    if folder is None:
        return RunMessageReader({"stdio": "stdout"}, "the log of the Ray job")
    path = folder.message_params["path"]
    return RunMessageReader(folder.message_params, f"{path} ({folder.transport.label})")


def _injector(folder: RunFolder | None) -> PipesContextInjector:
    return GivenContext(None if folder is None else folder.context_params)

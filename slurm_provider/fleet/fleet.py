"""Launch, list and cancel the cluster's nodes; the only place that changes a ledger.

Two ways to run. On the head (``watch()``) one thread asks Slurm once per interval for everything
and the autoscaler's calls read its last answer, so that no tick ever waits for Slurm. In a
command (`ray up`, `ray down`) there is no thread and each listing is fresh.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from slurm_provider.config import ProviderConfig
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.brake import Brake
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.identity import HEAD, JobIdentity, new_launch_id, split_node_id
from slurm_provider.fleet.launch import LaunchRequest, activation, node_spec, provider_options
from slurm_provider.fleet.ledger import Ledger, Node
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import (
    SlurmClient,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
    Submission,
)

logger = logging.getLogger(__name__)

# Slurm's budget: 12 squeue a minute while something is on its way, 2 while all is quiet.
FAST_POLL_S = 5.0
SLOW_POLL_S = 30.0
# Without an answer for this long the view is no longer worth acting on.
STALE_S = 120.0
# An sbatch that timed out may still be carried out; ask again only after a listing taken this
# long after it (slurmctld's own message time-out is 10 s).
UNSURE_S = 15.0
_COMMAND_ATTEMPTS = 3


class Fleet:
    """The nodes of one cluster."""

    def __init__(
        self,
        client: SlurmClient,
        store: ClusterStore,
        edge: EdgeHead,
        config: ProviderConfig,
        cluster_name: str,
        uuid: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = store
        self._config = config
        self._cluster_name = cluster_name
        self._clock = clock
        self._lock = threading.RLock()
        self._ledger = Ledger(uuid)
        self._brake = Brake()
        self._requests: dict[str, tuple[LaunchRequest, Mapping[str, Any]]] = {}
        self._unsure: dict[str, float] = {}  # launch -> when its sbatch gave no clear answer
        self._listed_at: float | None = None
        self._problem = "Slurm has not been asked yet"
        self._watcher: threading.Thread | None = None
        self._wake = threading.Event()
        self._edge = edge
        self._array_limit: int | None = None
        self._published: dict[str, Any] | None = None

    # -- reading ---------------------------------------------------------------------------

    def nodes(self, max_age_s: float = 0.5) -> list[Node]:
        """Living nodes: held, queued, running. Raises SlurmUnavailable rather than guess."""
        self._ensure_fresh(max_age_s)
        with self._lock:
            return self._ledger.live()

    def remaining(self) -> list[Node]:
        """All nodes that may still hold something of Slurm's, asked freshly."""
        self._ensure_fresh(0.0)
        with self._lock:
            return self._ledger.remaining()

    def node(self, node_id: str) -> Node | None:
        with self._lock:
            return self._ledger.nodes.get(node_id)

    def watch(self) -> None:
        """Start asking Slurm in the background (idempotent)."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="slurm-watch", daemon=True)
            self._watcher.start()

    def refresh(self) -> None:
        """Ask Slurm for everything once and take the answer in; raises SlurmError."""
        asked_at = self._clock()
        try:
            jobs = self._client.queue()
        except SlurmError as error:
            self._problem = str(error)
            raise
        with self._lock:
            if self._watcher is not None and not self._is_plausible(jobs):
                self._problem = "squeue answered without the head's own job"
                raise SlurmUnavailable(self._problem)
            now = self._clock()
            observation = self._ledger.observe(jobs, asked_at, now)
            self._listed_at = asked_at
            self._ledger.forget_ended(n.node_id for n in observation.ended)
        if observation.duplicates:
            logger.warning("cancelling jobs submitted twice: %s", observation.duplicates)
            self._client.cancel(observation.duplicates)
        self._judge(observation.ended)
        self._look_at_edge()

    # -- acting ----------------------------------------------------------------------------

    def launch(self, request: LaunchRequest, count: int, code: str,
               head_env: Mapping[str, str]) -> list[str]:  # fmt: skip
        """Launch ``count`` nodes; their ids.

        On the head, nodes that cannot be submitted now are held (listed as pending) and
        submitted later: Ray would retry every tick and hide the reason. Raises SlurmRefused when
        Slurm will never take them, ClusterError when the cluster is closing.
        """
        if self._store.is_closing():
            raise ClusterError(f"cluster {self._cluster_name!r} is being taken down")
        ids: list[str] = []
        for size in self._sizes(count):
            launch = new_launch_id()
            spec = node_spec(request, self._config, self._store.paths, launch, code, head_env)
            lines = activation(self._config.environment, self._store.unpack_script)
            self._store.write_launch(launch, spec, lines)
            with self._lock:
                self._requests[launch] = (request, spec)
                identity = self._identity(request, launch)
                nodes = [self._ledger.add(identity, index) for index in range(size)]
                ids += [node.node_id for node in nodes]
                reason = self._hold_reason(request.node_type, len(nodes))
                for node in nodes:
                    node.held, node.on_edge = reason, request.on_edge
            if request.on_edge:
                self._edge.start(launch, nodes[0].node_id, request.node_type, code)
            elif reason is None:
                self._submit_new(launch, nodes)
        if self._watcher is not None:
            self._publish()
            self._wake.set()
        return ids

    def cancel(self, node_ids: Iterable[str]) -> None:
        """End nodes, in one scancel; unknown and ended ones are fine. Raises SlurmError."""
        with self._lock:
            nodes = [n for i in node_ids if (n := self._ledger.nodes.get(i)) and not n.ended]
            held = [node for node in nodes if node.held is not None]
            for node in held:
                node.held, node.ended = None, "withdrawn before it was submitted"
            # Heads first: their autoscaler must not replace the workers we are about to end.
            rest = sorted((n for n in nodes if n not in held), key=lambda n: n.kind != HEAD)
        jobs = [node.slurm_id for node in rest if node.slurm_id is not None]
        if jobs:
            self._client.cancel(jobs)
        if any(node.on_edge for node in rest) and (place := self._edge.place()) is not None:
            self._edge.stop(place)
        with self._lock:
            for node in rest:
                node.cancelled = True

    def sweep(self, timeout_s: float) -> bool:
        """Cancel whatever Slurm still lists of this cluster until nothing is; True when clean."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = self.remaining()
            if not left:
                return True
            if time.monotonic() > deadline:
                return False
            self.cancel([n.node_id for n in left if not (n.job and n.job.state.is_ending)])
            time.sleep(0.3)

    # -- inside ----------------------------------------------------------------------------

    def _look_at_edge(self) -> None:
        """Take in a head on an edge node. The autoscaler runs inside it and need not look twice."""
        with self._lock:
            known = [node for node in self._ledger.nodes.values() if node.on_edge]
        if self._watcher is not None and known:
            return
        place = self._edge.place()
        if place is None:
            return
        alive = self._watcher is not None or self._edge.is_alive(place)
        with self._lock:
            node = self._ledger.nodes.get(place.node_id)
            if node is None:
                launch, index = split_node_id(place.node_id)
                identity = JobIdentity(
                    self._cluster_name, place.node_type, self._ledger.uuid, HEAD, launch
                )
                node = self._ledger.add(identity, index)
                node.on_edge = True
            if not alive:
                node.ended = "its process is gone"

    def _ensure_fresh(self, max_age_s: float) -> None:
        now = self._clock()
        if self._watcher is not None:
            if self._listed_at is None or now - self._listed_at > STALE_S:
                raise SlurmUnavailable(f"no listing from Slurm: {self._problem}")
        elif self._listed_at is None or now - self._listed_at > max_age_s:
            self.refresh()

    def _is_plausible(self, jobs: Sequence[Any]) -> bool:
        # On the head inside Slurm, our own job must be listed as long as we live.
        head = next((n for n in self._ledger.nodes.values() if n.kind == HEAD and n.is_live), None)
        if head is None or head.slurm_id is None:
            return True
        return any(job.job_id == head.slurm_id for job in jobs)

    def _identity(self, request: LaunchRequest, launch: str) -> JobIdentity:
        return JobIdentity(
            self._cluster_name, request.node_type, self._ledger.uuid, request.kind, launch
        )

    def _sizes(self, count: int) -> list[int]:
        """Launch sizes: one array job, or several where the site's MaxArraySize is smaller."""
        if count == 1:
            return [1]
        if self._array_limit is None:
            self._array_limit = self._client.config().max_array_size
        limit = self._array_limit - 1  # MaxArraySize is the highest index plus one
        if limit < 2:
            return [1] * count  # arrays are switched off at this site
        return [limit] * (count // limit) + ([count % limit] if count % limit else [])

    def _hold_reason(self, node_type: str, count: int) -> str | None:
        if self._watcher is None:
            return None  # a person waits for the answer
        reason = self._brake.hold_reason(node_type, self._clock())
        if reason is not None or self._config.max_pending is None:
            return reason
        # The nodes of this launch are in the ledger already and count themselves.
        pending = sum(node.is_pending for node in self._ledger.nodes.values())
        if pending > self._config.max_pending:
            return f"provider.max_pending: {self._config.max_pending} jobs wait already"
        return None

    def _submit_new(self, launch: str, nodes: Sequence[Node]) -> None:
        attempts = 1 if self._watcher is not None else _COMMAND_ATTEMPTS
        for attempt in range(attempts):
            try:
                self._submit(launch, nodes)
                return
            except SlurmRefused as error:
                with self._lock:
                    self._brake.pause(nodes[0].node_type, str(error))
                    for node in nodes:
                        node.ended = str(error)
                raise
            except SlurmError as error:
                with self._lock:
                    for node in nodes:
                        node.held = str(error)
                if self._watcher is not None:
                    return
                if attempt + 1 == attempts:
                    for node in nodes:
                        node.ended = str(error)
                    raise
                # It may have been submitted all the same: look before trying again.
                time.sleep(2.0)
                self.refresh()
                if all(node.job is not None for node in nodes):
                    return

    def _submit(self, launch: str, nodes: Sequence[Node]) -> None:
        """One sbatch for the nodes of one launch; notes the time when the outcome is unclear."""
        request, spec = self._requests[launch]
        is_array = len(nodes) > 1 or nodes[0].index > 0
        identity = self._identity(request, launch)
        if not is_array:
            identity = JobIdentity(
                identity.cluster, identity.node_type, identity.uuid, identity.kind, launch, 0
            )
        submission = Submission(
            script=self._store.node_script,
            args=[self._store.paths.root, str(spec["code"]), launch],
            options=request.options,
            provider_options=provider_options(identity, request, self._config, self._store.paths),
            array_tasks=[node.index for node in nodes] if is_array else None,
        )
        try:
            job_id = self._client.submit(submission).job_id
        except SlurmUnavailable:
            self._unsure[launch] = self._clock()
            raise
        with self._lock:
            self._unsure.pop(launch, None)
            self._ledger.submitted(nodes, job_id, is_array, self._clock())
        logger.info("submitted %d x %s as job %s", len(nodes), request.node_type, job_id)

    def _watch(self) -> None:
        while True:
            try:
                self.refresh()
                self._release_held()
                self._publish()
            except SlurmError as error:
                logger.warning("asking Slurm failed, keeping the last view: %s", error)
            except Exception:
                # The thread is the autoscaler's only eye on Slurm: it must outlive any surprise.
                logger.exception("the Slurm watcher failed once")
            self._wake.wait(self._interval())
            self._wake.clear()
            time.sleep(0.2)  # a burst of launches is one listing, not many

    def _interval(self) -> float:
        with self._lock:
            nodes = self._ledger.live()
        quiet = all(node.is_running for node in nodes)
        return SLOW_POLL_S if quiet and self._listed_at is not None else FAST_POLL_S

    def _release_held(self) -> None:
        """Submit held nodes whose reason has gone."""
        if self._store.take_resume():
            with self._lock:
                self._brake.release()
        by_launch: dict[str, list[Node]] = {}
        with self._lock:
            for node in self._ledger.live():
                if node.held is not None:
                    by_launch.setdefault(node.launch, []).append(node)
        for launch, nodes in by_launch.items():
            ready = self._ready(launch, nodes)
            if not ready:
                continue
            try:
                self._submit(launch, ready)
            except SlurmRefused as error:
                with self._lock:
                    self._brake.pause(nodes[0].node_type, str(error))
                    for node in nodes:
                        node.held = str(error)
                logger.error("%s", error)
            except SlurmError as error:
                with self._lock:
                    for node in ready:
                        node.held = str(error)
                logger.warning("%s", error)

    def _ready(self, launch: str, nodes: Sequence[Node]) -> list[Node]:
        """Which of a launch's held nodes may be submitted now."""
        unsure_at = self._unsure.get(launch)
        if unsure_at is not None and (self._listed_at or 0) < unsure_at + UNSURE_S:
            return []  # it may be in Slurm already
        with self._lock:
            reason = self._brake.hold_reason(nodes[0].node_type, self._clock())
            if reason is not None:
                for node in nodes:
                    node.held = reason
                return []
            if self._brake.is_suspect(nodes[0].node_type):
                # One node tries the type out before the others follow.
                if any(n.is_live and n.held is None and n.node_type == nodes[0].node_type
                       for n in self._ledger.nodes.values()):  # fmt: skip
                    return []
                return list(nodes[:1])
            if self._config.max_pending is None:
                return list(nodes)
            pending = sum(node.is_pending for node in self._ledger.nodes.values())
            return list(nodes[: max(0, self._config.max_pending - pending)])

    def _judge(self, ended: Iterable[Node]) -> None:
        """Learn from nodes that ended, and from suspects that joined."""
        if self._watcher is None:
            return
        for node in ended:
            if node.cancelled or node.kind == HEAD or node.job is None:
                continue
            report = self._store.report(node.node_id)
            if report is not None and "joined" in report:
                continue
            cause = (report or {}).get("reason") or node.ended or "unknown"
            tail = self._store.log_tail(node.node_id, 5)
            log = self._store.paths.log(node.node_id)
            logger.error(
                "node %s (job %s, type %s) ended before it joined Ray: %s\n%s\nlog: %s",
                node.node_id, node.slurm_id, node.node_type, cause, tail, log,
            )  # fmt: skip
            with self._lock:
                self._brake.failed(node.node_type, cause, self._clock(), log)
        with self._lock:
            running = [node for node in self._ledger.live() if node.is_running]
            suspects = [node for node in running if self._brake.is_suspect(node.node_type)]
        for node in suspects:
            report = self._store.report(node.node_id)
            if report is not None and "joined" in report:
                with self._lock:
                    self._brake.joined(node.node_type)

    def _publish(self) -> None:
        """Say in the cluster's directory what is held back, for ``ray-slurm status``."""
        with self._lock:
            held = [
                {"node_id": n.node_id, "node_type": n.node_type, "reason": n.held}
                for n in self._ledger.live() if n.held is not None
            ]  # fmt: skip
            state = {"held": held, "types": self._brake.snapshot()}
        if state != self._published:
            self._published = state
            self._store.write_autoscaler_state(state)

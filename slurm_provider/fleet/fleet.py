"""Launch, list and cancel the cluster's nodes; the only place that changes a ledger.

Two ways to run. On the head (``watched``) a :class:`.watcher.Watcher` ticks in the background and
the autoscaler's calls read its last answer, so that no call of Ray's ever waits for a listing. In
a command (`ray up`, `ray down`) nothing runs in the background and each listing is fresh.

On the head four threads meet here: Ray's loop (lists), its launch pool, its terminate thread and
the watcher. Ledger and brake are touched under ``_lock`` only; no Slurm command and no file is
waited for while holding it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_provider.config import ProviderConfig
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.admission import UNSURE_S, admit
from slurm_provider.fleet.brake import Brake
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.identity import HEAD, JobIdentity, new_launch_id, split_node_id
from slurm_provider.fleet.launch import LaunchRequest, activation, node_spec
from slurm_provider.fleet.ledger import Ledger, Node
from slurm_provider.fleet.postmortem import failure, joined_at
from slurm_provider.fleet.preview import submission_for
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import (
    Job,
    SlurmClient,
    SlurmError,
    SlurmLimited,
    SlurmMissing,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

# Slurm's budget: 12 squeue a minute while something is on its way, 2 while all is quiet.
FAST_POLL_S = 5.0
SLOW_POLL_S = 30.0
# Without an answer for this long the view is no longer worth acting on.
STALE_S = 120.0
_COMMAND_ATTEMPTS = 3
_LOOK_AGAIN_S = 2.0
_SWEEP_PAUSES_S = (0.3, 2.4)  # from, to: a job needs a moment to end, some need many

_NOT_DONE = (SlurmRefused, SlurmLimited, SlurmMissing)  # after these, no job was made


@dataclass(frozen=True)
class _Launch:
    """What was asked for, kept until the last of its nodes is submitted."""

    request: LaunchRequest
    identity: JobIdentity
    code: str


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
        *,
        watched: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.wake = threading.Event()
        self._client = client
        self._store = store
        self._edge = edge
        self._config = config
        self._cluster_name = cluster_name
        self._watched = watched
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.RLock()
        self._ledger = Ledger(uuid)
        self._brake = Brake()
        self._launches: dict[str, _Launch] = {}
        self._unjudged: list[Node] = []  # ended, their reports not read yet
        self._listed_at: float | None = None
        self._problem = "Slurm has not been asked yet"
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

    def poll_interval_s(self) -> float:
        """How long the view stays good enough."""
        with self._lock:
            quiet = all(node.is_running for node in self._ledger.live())
        return SLOW_POLL_S if quiet and self._listed_at is not None else FAST_POLL_S

    # -- asking Slurm ----------------------------------------------------------------------

    def tick(self) -> None:
        """One look at Slurm and all that follows from it. Raises what ``refresh`` raises."""
        try:
            self.refresh()
            self._judge()
            self._release_held()
        finally:
            self._publish()

    def refresh(self) -> None:
        """Ask Slurm for everything once and take the answer in; raises SlurmError."""
        asked_at = self._clock()
        try:
            jobs = self._client.queue()
            self._check_plausible(jobs)
        except SlurmError as error:
            self._problem = str(error)
            with self._lock:
                self._ledger.silence(self._clock())
            raise
        with self._lock:
            observation = self._ledger.observe(jobs, asked_at, self._clock())
            self._listed_at = asked_at
            self._ledger.forget_ended(node.node_id for node in observation.ended)
        if self._watched:
            self._unjudged += observation.ended
        self._look_at_edge()
        if observation.duplicates:
            # If this fails, the next listing shows them again.
            logger.warning("cancelling jobs submitted twice: %s", observation.duplicates)
            self._client.cancel(observation.duplicates)

    def _check_plausible(self, jobs: Sequence[Job]) -> None:
        # As long as we live, so does the head's job, and a whole listing shows it.
        in_job = self._watched and self._config.head_placement == "slurm"
        if in_job and not self._ledger.lists_head(jobs):
            raise SlurmUnavailable("squeue answered without the head's own job")

    def _ensure_fresh(self, max_age_s: float) -> None:
        age_s = None if self._listed_at is None else self._clock() - self._listed_at
        if self._watched:
            if age_s is None or age_s > STALE_S:
                raise SlurmUnavailable(f"no listing from Slurm: {self._problem}")
        elif age_s is None or age_s > max_age_s:
            self.refresh()

    def _look_at_edge(self) -> None:
        """Take in a head on an edge node. The autoscaler runs inside it and need not look twice."""
        with self._lock:
            known = any(node.on_edge for node in self._ledger.nodes.values())
        if self._watched and known:
            return
        place = self._edge.place()
        if place is None:
            return
        alive = self._watched or self._edge.is_alive(place)
        with self._lock:
            node = self._ledger.nodes.get(place.node_id)
            if node is None:
                launch, index = split_node_id(place.node_id)
                identity = self._identity(HEAD, place.node_type, launch)
                node = self._ledger.add(identity, index)
                node.on_edge = True
            if not alive:
                node.ended = "its process is gone"

    # -- launching -------------------------------------------------------------------------

    def launch(self, request: LaunchRequest, count: int, code: str,
               head_env: Mapping[str, str]) -> list[str]:  # fmt: skip
        """Launch ``count`` nodes; their ids.

        On the head, nodes that cannot be submitted now are held (listed as pending) and
        submitted later: Ray would retry every tick and hide the reason. Raises SlurmRefused when
        Slurm will never take them, ClusterError when the cluster is closing; then nothing of
        the launch is in Slurm.
        """
        if self._store.is_closing():
            raise ClusterError(f"cluster {self._cluster_name!r} is being taken down")
        # Files first: an exception after the first sbatch would make Ray launch all of it again.
        sizes = {new_launch_id(): size for size in self._sizes(count)}
        for launch in sizes:
            spec = node_spec(request, self._config, self._store.paths, launch, code, head_env)
            lines = activation(self._config.environment, self._store.unpack_script)
            self._store.write_launch(launch, spec, lines)
        nodes = [node for launch in sizes for node in self._add(launch, request, sizes[launch],
                                                                code)]  # fmt: skip
        try:
            if request.on_edge:
                self._edge.start(nodes[0].launch, nodes[0].node_id, request.node_type, code)
                nodes[0].held = None
            elif self._watched:
                self._submit_or_hold(sizes)
            else:
                self._submit_at_once(sizes)
        except BaseException as error:
            with self._lock:
                for node in nodes:
                    node.ended = str(error)
            raise
        self.wake.set()
        return [node.node_id for node in nodes]

    def _add(self, launch: str, request: LaunchRequest, count: int, code: str) -> list[Node]:
        identity = self._identity(request.kind, request.node_type, launch)
        with self._lock:
            self._launches[launch] = _Launch(request, identity, code)
            nodes = [self._ledger.add(identity, index) for index in range(count)]
            for node in nodes:
                node.held, node.on_edge = "not submitted yet", request.on_edge
        return nodes

    def _identity(self, kind: str, node_type: str, launch: str) -> JobIdentity:
        return JobIdentity(self._cluster_name, node_type, self._ledger.uuid, kind, launch)

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

    def _submit_or_hold(self, launches: Iterable[str]) -> None:
        """The autoscaler's way. Raises SlurmRefused if the very first sbatch is refused."""
        is_first = True
        for launch in launches:
            try:
                self._submit_admitted(launch)
            except SlurmError as error:
                if is_first and isinstance(error, SlurmRefused):
                    raise
                logger.warning("%s", error)
            is_first = False

    def _submit_at_once(self, launches: Iterable[str]) -> None:
        """A command's way: a person waits. An sbatch without an answer is looked for, then
        repeated."""
        for launch in launches:
            for attempt in range(_COMMAND_ATTEMPTS):
                with self._lock:
                    nodes = self._held(launch)
                try:
                    self._submit(launch, nodes)
                    break
                except SlurmUnavailable:
                    if self._turns_up(nodes):
                        break
                    if attempt + 1 == _COMMAND_ATTEMPTS:
                        raise

    def _turns_up(self, nodes: Sequence[Node]) -> bool:
        """Whether nodes whose sbatch gave no answer are listed soon after all."""
        deadline = self._clock() + UNSURE_S
        while self._clock() < deadline:
            self._sleep(_LOOK_AGAIN_S)
            try:
                self.refresh()
            except SlurmError as error:
                logger.warning("%s", error)
            if all(node.job is not None for node in nodes):
                return True
        return False

    def _submit_admitted(self, launch: str) -> None:
        """Submit the held nodes of a launch that may go now. Raises SlurmError."""
        with self._lock:
            held = self._held(launch)
            admission = admit(
                held, self._ledger.nodes.values(), self._brake, self._config.max_pending,
                self._clock(), self._listed_at,
            )  # fmt: skip
            for node in held:
                node.held = admission.reason or node.held
            self._ledger.submitting(admission.ready, self._clock())
        if admission.ready:
            self._submit(launch, admission.ready)

    def _submit(self, launch: str, nodes: Sequence[Node]) -> None:
        """One sbatch. If it fails, the nodes are held and the brake knows; raises SlurmError."""
        asked = self._launches[launch]
        indices = [node.index for node in nodes]
        submission = submission_for(
            asked.identity, asked.request, self._config, self._store, asked.code, indices
        )
        node_type = asked.request.node_type
        with self._lock:
            self._ledger.submitting(nodes, self._clock())
        try:
            job_id = self._client.submit(submission).job_id
        except BaseException as error:
            now = self._clock()
            with self._lock:
                unsure_since = None if isinstance(error, _NOT_DONE) else now
                self._ledger.not_submitted(nodes, str(error), unsure_since)
                if isinstance(error, SlurmError) and not isinstance(error, SlurmRefused):
                    self._brake.defer(node_type, str(error), now)
                else:
                    self._brake.pause(node_type, str(error) or type(error).__name__)
            raise
        with self._lock:
            self._ledger.submitted(nodes, job_id, submission.array_tasks is not None, self._clock())
            self._brake.accepted(node_type)
        logger.info("submitted %d x %s as job %s", len(nodes), node_type, job_id)

    def _held(self, launch: str) -> list[Node]:
        return [n for n in self._ledger.live() if n.launch == launch and n.held is not None]

    def _release_held(self) -> None:
        """Submit held nodes whose reason has gone."""
        if self._store.take_resume():
            self._resume()
        with self._lock:
            waiting = {n.launch for n in self._ledger.live() if n.job is None and n.job_id is None}
            held = dict.fromkeys(n.launch for n in self._ledger.live() if n.held is not None)
            self._launches = {k: v for k, v in self._launches.items() if k in waiting}
        if not held or self._store.is_closing():
            return
        for launch in held:
            try:
                self._submit_admitted(launch)
            except SlurmUnavailable as error:
                logger.warning("%s", error)
                return  # the others would wait for the same silence
            except SlurmError as error:
                logger.warning("%s", error)

    def _resume(self) -> None:
        """The user mended something: give held nodes up, so that Ray asks for them anew with the
        configuration as it is now."""
        with self._lock:
            released = self._brake.release()
            for node in self._ledger.live():
                if node.held is not None and node.node_type in released:
                    node.ended = "asked for anew after `ray-slurm resume`"

    # -- ending ----------------------------------------------------------------------------

    def cancel(self, node_ids: Iterable[str]) -> None:
        """End nodes, in one scancel; unknown and ended ones are fine. Raises SlurmError."""
        with self._lock:
            nodes = [n for i in node_ids if (n := self._ledger.nodes.get(i)) and not n.ended]
            # Heads first: their autoscaler must not replace the workers we are about to end.
            nodes.sort(key=lambda node: node.kind != HEAD)
            for node in nodes:
                node.cancel_asked = True
                if node.slurm_id is None and not node.on_edge:
                    # Held, or its sbatch is under way: then the job is cancelled when listed.
                    node.held, node.ended = None, "withdrawn before it was submitted"
            rest = [node for node in nodes if not node.ended]
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
        pause_s, longest_s = _SWEEP_PAUSES_S
        while left := self.remaining():
            if time.monotonic() > deadline:
                return False
            self.cancel([n.node_id for n in left if not (n.job and n.job.state.is_ending)])
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
        return True

    # -- learning and telling --------------------------------------------------------------

    def _judge(self) -> None:
        """Learn from nodes that ended, and from suspects that joined."""
        unjudged, self._unjudged = self._unjudged, []
        for node in unjudged:
            try:
                found = failure(node, self._store)
            except (OSError, TransportError) as error:
                logger.warning("how node %s ended cannot be read yet: %s", node.node_id, error)
                self._unjudged.append(node)
                continue
            if found is None:
                continue
            cause, tail = found
            log = self._store.paths.log(node.node_id)
            logger.error(
                "node %s (job %s, type %s) ended before it joined Ray: %s\n%s\nlog: %s",
                node.node_id, node.slurm_id, node.node_type, cause, tail, log,
            )  # fmt: skip
            with self._lock:
                self._brake.failed(node.node_type, cause, self._clock(), log)
        with self._lock:
            running = [node for node in self._ledger.live() if node.is_running]
        for node in running:
            if self._brake.suspect_since(node.node_type) is None:
                continue
            if (when := joined_at(node, self._store)) is not None:
                with self._lock:
                    self._brake.joined(node.node_type, when)

    def _publish(self) -> None:
        """Say in the cluster's directory what is held back, for ``ray-slurm status``."""
        with self._lock:
            held = [
                {"node_id": n.node_id, "node_type": n.node_type, "reason": n.held}
                for n in self._ledger.live() if n.held is not None
            ]  # fmt: skip
            state = {"held": held, "types": self._brake.snapshot()}
        if state != self._published:
            self._store.write_autoscaler_state(state)
            self._published = state

"""The truth about a cluster's nodes: launch, list and cancel them.

Two ways to run. On the head (``watched``) a :class:`.watcher.Watcher` ticks in the background and
the autoscaler's calls read its last answer, so that no call of Ray's ever waits for a listing. In
a command (`ray up`, `ray down`) nothing runs in the background and each listing is fresh.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from slurm_provider.config import ProviderConfig
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.admission import is_unsure
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.hopeless import Hopeless, why
from slurm_provider.fleet.identity import HEAD, JobIdentity, new_launch_id, split_node_id
from slurm_provider.fleet.launch import LaunchRequest, node_spec
from slurm_provider.fleet.ledger import Ledger, Node
from slurm_provider.fleet.postmortem import Postmortem
from slurm_provider.fleet.state import FleetState
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.fleet.submitter import Submitter
from slurm_provider.slurm import Job, SlurmClient, SlurmError, SlurmUnavailable
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

# Slurm's budget: 12 squeue a minute while something is on its way, 2 while all is quiet. A job that
# has waited long will wait longer, and Ray learns of its start from the node itself.
FAST_POLL_S = 5.0
SLOW_POLL_S = 30.0
SETTLED_AFTER_S = 600.0
# Without an answer for this long the view is no longer worth acting on.
STALE_S = 120.0
_SWEEP_PAUSES_S = (0.2, 1.0)  # from, to: most jobs end in a moment, some take KillWait and more


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
        self.wake = threading.Event()  # set when a tick is wanted before its time
        self._client = client
        self._store = store
        self._edge = edge
        self._config = config
        self._cluster_name = cluster_name
        self._watched = watched
        self._clock = clock
        self._sleep = sleep
        self._state = FleetState(Ledger(uuid))
        self._submitter = Submitter(self._state, client, store, config, clock, sleep)
        self._postmortem = Postmortem(self._state, store, clock)
        self._hopeless = Hopeless()
        self._problem = "Slurm has not been asked yet"
        self._published: dict[str, Any] | None = None

    @property
    def uuid(self) -> str:
        """The cluster's."""
        return self._state.ledger.uuid

    # -- reading ---------------------------------------------------------------------------

    def nodes(self, max_age_s: float = 0.5) -> list[Node]:
        """What Ray should count: held, queued and running nodes. Raises SlurmUnavailable rather
        than guess."""
        self._ensure_fresh(max_age_s)
        with self._state.lock:
            return self._state.ledger.tell() if self._watched else self._state.ledger.live()

    def remaining(self) -> list[Node]:
        """All nodes that may still hold something of Slurm's, asked freshly."""
        self._ensure_fresh(0.0)
        with self._state.lock:
            return self._state.ledger.remaining()

    def node(self, node_id: str) -> Node | None:
        with self._state.lock:
            return self._state.ledger.nodes.get(node_id)

    def has_lost_answer(self) -> bool:
        """Whether Slurm may hold a job of a node that was given up, as far as the last listing
        tells: its sbatch gave no answer. Such a job is cancelled by the listing that shows it."""
        with self._state.lock:
            given_up = [node for node in self._state.ledger.nodes.values() if node.ended]
            return any(
                is_unsure(node, self._state.listed_at)
                or (node.misses == 0 and node.job is not None and node.job.state.is_live)
                for node in given_up
            )

    def poll_interval_s(self) -> float:
        """How long the view stays good enough."""
        with self._state.lock:
            now = self._clock()
            is_quiet = all(_is_settled(node, now) for node in self._state.ledger.live())
            return SLOW_POLL_S if is_quiet and self._state.listed_at is not None else FAST_POLL_S

    # -- launching and ending --------------------------------------------------------------

    def launch(self, request: LaunchRequest, count: int, code: str,
               head_env: Mapping[str, str]) -> list[str]:  # fmt: skip
        """Launch ``count`` nodes; their ids.

        On the head, nodes that cannot be submitted now are held (listed as pending) and
        submitted later: Ray would retry every tick and hide the reason. Raises SlurmRefused when
        Slurm will never take them, ClusterError when the cluster is closing. After an exception
        no job of the launch stays: Ray asks for all of it again.
        """
        self._check_open()
        sizes = {new_launch_id(): size for size in self._submitter.sizes(count)}
        launches = {
            launch: self._add(launch, request, size, code, head_env)
            for launch, size in sizes.items()
        }
        with self._all_or_none(launches) as nodes:
            if request.on_edge:
                self._submitter.write(nodes)
                self._edge.start(nodes[0].launch, nodes[0].node_id, request.node_type, code)
                nodes[0].held = None
            elif self._watched:
                self._submitter.submit_or_hold(launches)
            else:
                self._submitter.submit_patiently(launches, self.refresh)
        return [node.node_id for node in nodes]

    def launch_together(
        self,
        head: LaunchRequest,
        workers: Sequence[tuple[LaunchRequest, int]],
        code: str,
        head_env: Mapping[str, str],
    ) -> list[str]:
        """Launch a head and so many workers of each type as one heterogeneous job, which starts as
        a whole; the ids, the head's first. For commands; raises as ``launch``."""
        self._check_open()
        asked = [(new_launch_id(), request, count) for request, count in [(head, 1), *workers]]
        components = [(launch, i) for launch, _, count in asked[1:] for i in range(count)]
        launches = {
            launch: self._add(
                launch, request, count, code, head_env, components if request is head else ()
            )
            for launch, request, count in asked
        }
        with self._all_or_none(launches) as nodes:
            self._submitter.submit_together(launches, self.refresh)
        return [node.node_id for node in nodes]

    def cancel(self, node_ids: Iterable[str]) -> None:
        """End nodes, in one scancel; unknown and ended ones are fine. Raises SlurmError."""
        with self._state.lock:
            known = self._state.ledger.nodes
            nodes = [n for i in node_ids if (n := known.get(i)) and not n.ended]
            # Heads first: their autoscaler must not replace the workers we are about to end.
            nodes.sort(key=lambda node: node.kind != HEAD)
            for node in nodes:
                node.cancel_asked = True
                if node.slurm_id is None and not node.on_edge:
                    # Held, or its sbatch is under way: then its job is cancelled when it is listed.
                    node.held, node.ended = None, "withdrawn before it was submitted"
            in_slurm = [node for node in nodes if not node.ended]
            jobs = [node.slurm_id for node in in_slurm if node.slurm_id is not None]
        if jobs:
            self._client.cancel(jobs)
        if any(node.on_edge for node in in_slurm) and (place := self._edge.place()) is not None:
            self._edge.stop(place)
        with self._state.lock:
            for node in in_slurm:
                node.cancelled_at = self._clock()

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

    def _check_open(self) -> None:
        if self._store.is_closing():
            raise ClusterError(f"cluster {self._cluster_name!r} is being taken down")

    def _add(
        self,
        launch: str,
        request: LaunchRequest,
        count: int,
        code: str,
        head_env: Mapping[str, str],
        components: Sequence[tuple[str, int]] = (),
    ) -> list[Node]:
        identity = self._identity(request.kind, request.node_type, launch)
        spec = node_spec(
            request, self._config, self._store.paths, launch, code, head_env, components
        )
        return self._submitter.add(identity, request, count, code, spec)

    @contextmanager
    def _all_or_none(self, launches: Mapping[str, Sequence[Node]]) -> Iterator[list[Node]]:
        """The nodes; if their submission fails, none of them stays."""
        nodes = [node for nodes in launches.values() for node in nodes]
        try:
            yield nodes
        except BaseException as error:
            with self._state.lock:
                for node in nodes:
                    node.ended = str(error)  # a job that turns up all the same is cancelled
            raise
        self.wake.set()

    # -- asking Slurm ----------------------------------------------------------------------

    def tick(self) -> None:
        """One look at Slurm and all that follows from it; for one thread. Raises as ``refresh``."""
        try:
            try:
                self._postmortem.take(self._observe())
            except SlurmError:
                self._hopeless.forget()
                raise
            self._postmortem.judge()
            self._end_hopeless()
            self._release_held()
        finally:
            self._publish()

    def refresh(self) -> None:
        """Ask Slurm for everything once and take the answer in; raises SlurmError."""
        self._observe()

    def _observe(self) -> tuple[Node, ...]:
        """The nodes that a fresh listing shows to have ended."""
        state, asked_at = self._state, self._clock()
        try:
            jobs = self._client.queue()
            self._check_plausible(jobs)
        except SlurmError as error:
            self._problem = str(error)
            with state.lock:
                state.ledger.silence(self._clock())
            raise
        with state.lock:
            observation = state.ledger.observe(jobs, asked_at, self._clock())
            state.ledger.forget_ended(node.node_id for node in observation.ended)
            state.listed_at = asked_at
        if observation.duplicates:
            logger.warning("cancelling jobs submitted twice: %s", observation.duplicates)
            try:
                self._client.cancel(observation.duplicates)
            except SlurmError as error:
                logger.warning("%s", error)  # the next listing shows them again
        self._look_at_edge()
        return observation.ended

    def _check_plausible(self, jobs: Sequence[Job]) -> None:
        # As long as we live, so does the head's job, and a whole listing shows it.
        is_in_job = self._watched and self._config.head_placement == "slurm"
        if is_in_job and not self._state.ledger.lists_head(jobs):
            raise SlurmUnavailable("squeue answered without the head's own job")

    def _ensure_fresh(self, max_age_s: float) -> None:
        listed_at = self._state.listed_at
        age_s = None if listed_at is None else self._clock() - listed_at
        if self._watched:
            if age_s is None or age_s > STALE_S:
                raise SlurmUnavailable(f"no listing from Slurm: {self._problem}")
        elif age_s is None or age_s >= max_age_s:
            self.refresh()

    def _look_at_edge(self) -> None:
        """Take in a head on an edge node. The autoscaler runs inside it and need not look twice."""
        ledger = self._state.ledger
        with self._state.lock:
            is_known = any(node.on_edge for node in ledger.nodes.values())
        if self._watched and is_known:
            return
        place = self._edge.place()
        if place is None:
            return
        is_alive = self._watched or self._edge.is_alive(place)
        with self._state.lock:
            node = ledger.nodes.get(place.node_id)
            if node is None:
                launch, index = split_node_id(place.node_id)
                node = ledger.add(self._identity(HEAD, place.node_type, launch), index)
                node.on_edge = True
            if not is_alive:
                node.ended = "its process is gone"

    def _end_hopeless(self) -> None:
        """Cancel what can never run and pause its types, so that Ray hears of it."""
        with self._state.lock:
            found = self._hopeless.look(self._state.ledger.live(), self._clock())
            for node_type, node in {node.node_type: node for node in found}.items():
                logger.error("node type %r is paused: %s", node_type, why(node))
                self._state.brake.pause_unheard(node_type, why(node))
        if found:
            self.cancel([node.node_id for node in found])

    def _release_held(self) -> None:
        if self._store.take_resume():
            with self._state.lock:
                released = self._state.brake.release()
            # Ray asks for them anew, with the configuration as it is now.
            self._submitter.give_up_held(released, "asked for anew after `ray-slurm resume`")
        if not self._store.is_closing():
            self._submitter.release()

    def _publish(self) -> None:
        """Say in the cluster's directory what is held back, for ``ray-slurm status``."""
        with self._state.lock:
            held = [
                {"node_id": n.node_id, "node_type": n.node_type, "reason": n.held}
                for n in self._state.ledger.live() if n.held is not None
            ]  # fmt: skip
            published = {"held": held, "types": self._state.brake.snapshot()}
        if published != self._published:
            try:
                self._store.write_autoscaler_state(published)
            except (OSError, TransportError) as error:
                logger.warning("what is held back cannot be told to `ray-slurm status`: %s", error)
                return  # the next tick tries again
            self._published = published

    def _identity(self, kind: str, node_type: str, launch: str) -> JobIdentity:
        return JobIdentity(self._cluster_name, node_type, self.uuid, kind, launch)


def _is_settled(node: Node, now: float) -> bool:
    """Whether nothing is expected of a living node soon."""
    if node.is_running:
        return True
    submitted_at = node.job.submit_time if node.job is not None else None
    return submitted_at is not None and now - submitted_at > SETTLED_AFTER_S

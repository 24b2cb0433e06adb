"""From nodes that Ray asked for to jobs in Slurm's queue: at once, later, or never."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slurm_provider.config import ProviderConfig
from slurm_provider.fleet.admission import UNSURE_S, admit
from slurm_provider.fleet.arrays import Arrays
from slurm_provider.fleet.identity import JobIdentity
from slurm_provider.fleet.launch import LaunchRequest, activation
from slurm_provider.fleet.ledger import Node
from slurm_provider.fleet.preview import joint_submission, submission_for
from slurm_provider.fleet.state import FleetState
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import (
    ArrayRefused,
    SlurmClient,
    SlurmError,
    SlurmLimited,
    SlurmMissing,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

_COMMAND_ATTEMPTS = 3
_LOOK_AGAIN_S = 2.0


class LaunchUnwritten(SlurmError):
    """What the agents of a launch read cannot be written (the shared folder is full, say)."""


# After these, no job was made.
_NOT_DONE = (SlurmRefused, SlurmLimited, SlurmMissing, LaunchUnwritten)


@dataclass(frozen=True)
class _Launch:
    """What was asked for; kept until the last of its nodes is submitted."""

    request: LaunchRequest
    identity: JobIdentity
    code: str
    spec: Mapping[str, Any]  # for the nodes' agents


class Submitter:
    """Every node starts as held; whoever submits it decides under the lock that it may go."""

    def __init__(
        self,
        state: FleetState,
        client: SlurmClient,
        store: ClusterStore,
        config: ProviderConfig,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._state = state
        self._client = client
        self._store = store
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._launches: dict[str, _Launch] = {}
        self._written: set[str] = set()
        self._arrays = Arrays(client)

    def sizes(self, count: int) -> list[int]:
        """Launch sizes: one array job, or several where the site's MaxArraySize is smaller."""
        return self._arrays.launch_sizes(count)

    def add(
        self,
        identity: JobIdentity,
        request: LaunchRequest,
        count: int,
        code: str,
        spec: Mapping[str, Any],
    ) -> list[Node]:
        """The nodes of a new launch; ``spec`` is what their agents will read."""
        with self._state.lock:
            self._launches[identity.launch] = _Launch(request, identity, code, spec)
            nodes = [self._state.ledger.add(identity, index) for index in range(count)]
            for node in nodes:
                node.held, node.on_edge = "not submitted yet", request.on_edge
        return nodes

    def write(self, nodes: Sequence[Node]) -> None:
        """Put there what the nodes' agents read, once per launch; raises LaunchUnwritten."""
        lines = activation(self._config.environment, self._store.unpack_script)
        for launch in {node.launch: None for node in nodes if node.launch not in self._written}:
            try:
                self._store.write_launch(launch, self._launches[launch].spec, lines)
            except (OSError, TransportError) as error:
                why = getattr(error, "strerror", None) or error
                unwritten = LaunchUnwritten(
                    f"the cluster's folder {self._store.paths.root} cannot be written ({why}): "
                    "no node can start before that is mended"
                )
                unwritten.transient = getattr(error, "transient", False)
                raise unwritten from error
            self._written.add(launch)

    def submit_or_hold(self, launches: Mapping[str, Sequence[Node]]) -> None:
        """The autoscaler's way: what cannot go now waits for ``release``.

        Raises SlurmRefused if the very first sbatch is refused (later the others are running), or
        once for a type whose jobs turned out to wait for ever.
        """
        with self._state.lock:
            for launch in launches:
                untold = self._state.brake.take_untold(self._launches[launch].request.node_type)
                if untold is not None:
                    raise SlurmRefused(untold)
        is_first = True
        for nodes in launches.values():
            try:
                self._submit_admitted(nodes)
            except SlurmError as error:
                is_first = is_first and all(node.slurm_id is None for node in nodes)
                if is_first and isinstance(error, SlurmRefused):
                    raise
                logger.warning("%s", error)
            is_first = False

    def submit_patiently(
        self, launches: Mapping[str, Sequence[Node]], refresh: Callable[[], None]
    ) -> None:
        """A command's way, while a person waits: an sbatch without an answer is looked for in
        the queue, then repeated. Raises SlurmError."""
        for nodes in launches.values():
            left = list(nodes)
            self._arrays.ask(left)
            while batch := self._arrays.batch(left):
                self._submit_patiently(batch, refresh)
                left = [node for node in left if node not in batch]

    def submit_together(
        self, launches: Mapping[str, Sequence[Node]], refresh: Callable[[], None]
    ) -> None:
        """The same for all nodes at once, as one heterogeneous job. Raises SlurmError."""
        self._submit_patiently([node for nodes in launches.values() for node in nodes], refresh)

    def release(self) -> None:
        """Submit held nodes whose reason has gone."""
        blocked: dict[str, str | None] = {}
        for nodes in self._held():
            node_type = nodes[0].node_type
            if node_type in blocked:
                with self._state.lock:
                    _hold(nodes, blocked[node_type])
                continue
            try:
                if not self._submit_admitted(nodes):
                    blocked[node_type] = nodes[0].held
            except SlurmUnavailable as error:
                logger.warning("%s", error)
                return  # the others would wait for the same silence
            except SlurmError as error:
                logger.warning("%s", error)

    def give_up_held(self, node_types: Iterable[str], why: str) -> None:
        """End the held nodes of these types; none of them is in Slurm."""
        types = set(node_types)
        with self._state.lock:
            for node in self._state.ledger.live():
                if node.held is not None and node.node_type in types:
                    node.ended = why

    def _held(self) -> list[list[Node]]:
        """Held nodes by launch; what else is remembered of launches is dropped."""
        by_launch: dict[str, list[Node]] = {}
        under_way = set()
        with self._state.lock:
            for node in self._state.ledger.live():
                if node.held is not None:
                    by_launch.setdefault(node.launch, []).append(node)
                elif node.slurm_id is None:
                    under_way.add(node.launch)
            wanted = under_way | by_launch.keys()
            self._launches = {k: v for k, v in self._launches.items() if k in wanted}
            self._written &= wanted
        return list(by_launch.values())

    def _submit_admitted(self, nodes: Sequence[Node]) -> bool:
        """Submit those of a launch that may go now; whether any did. Raises SlurmError."""
        went = False
        while batch := self._next_batch(nodes):
            try:
                self._submit(batch)
                went = True
            except ArrayRefused as error:
                logger.warning("the nodes become single jobs: %s", error)
        return went

    def _next_batch(self, nodes: Sequence[Node]) -> list[Node]:
        """What may go with one sbatch, marked as under way; the others know what they wait for."""
        try:
            self._arrays.ask(nodes)
        except SlurmError as error:
            with self._state.lock:
                _hold((node for node in nodes if node.held is not None), str(error))
            raise
        state = self._state
        with state.lock:
            held = [node for node in nodes if node.held is not None and node.is_live]
            admission = admit(
                held, state.ledger.nodes.values(), state.brake, self._config.max_pending,
                self._clock(), state.listed_at,
            )  # fmt: skip
            _hold(held, admission.reason)
            batch = self._arrays.batch(admission.ready)
            state.ledger.submitting(batch, self._clock())
        return batch

    def _submit_patiently(self, nodes: Sequence[Node], refresh: Callable[[], None]) -> None:
        for attempt in range(_COMMAND_ATTEMPTS):
            with self._state.lock:
                self._state.ledger.submitting(nodes, self._clock())
            try:
                self._submit(nodes)
                return
            except SlurmUnavailable:
                if self._turn_up(nodes, refresh):
                    return
                if attempt + 1 == _COMMAND_ATTEMPTS:
                    raise

    def _submit(self, nodes: Sequence[Node]) -> None:
        """One sbatch for nodes of one launch, or for nodes of several as components of one job.

        If it fails, they are held; raises SlurmError.
        """
        state, asked = self._state, self._launches[nodes[0].launch]
        node_type = asked.request.node_type
        if all(node.launch == nodes[0].launch for node in nodes):
            submission = submission_for(
                asked.identity, asked.request, self._config, self._store, asked.code,
                [node.index for node in nodes],
            )  # fmt: skip
        else:
            components = [self._component(node) for node in nodes]
            submission = joint_submission(components, self._config, self._store, asked.code)
        try:
            self.write(nodes)
            submitted = self._client.submit(submission)
        except BaseException as error:
            now = self._clock()
            with state.lock:
                unsure_since = None if isinstance(error, _NOT_DONE) else now
                state.ledger.not_submitted(nodes, str(error), unsure_since)
                if isinstance(error, ArrayRefused):
                    self._arrays.refuse(node_type)
                elif isinstance(error, SlurmLimited):
                    state.brake.limited(node_type, len(nodes), str(error), now)
                elif isinstance(error, SlurmError) and not isinstance(error, SlurmRefused):
                    state.brake.defer(node_type, str(error), now)
                else:
                    state.brake.pause(node_type, str(error) or type(error).__name__)
            raise
        with state.lock:
            state.ledger.submitted(nodes, submitted.job_ids, self._clock())
            state.brake.accepted(node_type, len(nodes))
        logger.info("submitted %d x %s as job %s", len(nodes), node_type, submitted.job_id)

    def _component(self, node: Node) -> tuple[JobIdentity, LaunchRequest]:
        launch = self._launches[node.launch]
        return replace(launch.identity, index=node.index), launch.request

    def _turn_up(self, nodes: Sequence[Node], refresh: Callable[[], None]) -> bool:
        """Whether nodes whose sbatch gave no answer are listed soon after all."""
        deadline = self._clock() + UNSURE_S
        while self._clock() < deadline:
            self._sleep(_LOOK_AGAIN_S)
            try:
                refresh()
            except SlurmError as error:
                logger.warning("%s", error)
            if all(node.job is not None for node in nodes):
                return True
        return False


def _hold(nodes: Iterable[Node], reason: str | None) -> None:
    for node in nodes:
        node.held = reason or node.held

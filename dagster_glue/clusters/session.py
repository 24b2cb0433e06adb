"""Mode ``slurm-session``: a cluster that outlives assets, runs and Dagster processes.

Whoever needs it looks for it among the site's clusters, takes a lease and looks again; only who
finds none makes one, under a lock. Its head leaves by itself when nobody has leased it for a while.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dagster_glue.clusters.choice import Wish, choose, free_names, has_time_left
from dagster_glue.clusters.lease import HAND_OVER_S, Lease, tidy
from dagster_glue.clusters.on_slurm import SlurmCluster
from dagster_glue.clusters.place import Place
from dagster_glue.clusters.shape import config_of, differences
from dagster_glue.clusters.site import SESSION_FILE, Sighting, head_is_silent
from dagster_glue.clusters.start_logs import keeping_start_logs
from dagster_glue.clusters.waiting import Patience, QueueWait, await_host, is_outage
from slurm_provider.api import Head, RayCluster
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

_LOOK_AGAIN_S = 1.0
_NO_ANSWER = (ClusterError, SlurmError, TransportError, OSError)


@contextmanager
def session_cluster(
    place: Place,
    wish: Wish,
    log: Callable[[str], None],
    *,
    run_id: str,
    step_key: str,
    queue_timeout_s: float | None,
    leave_running: Callable[[BaseException], bool],
) -> Iterator[SlurmCluster]:
    """Find the cluster, or make it, and give its lease back afterwards; the cluster stays.

    ``log`` hears each new state of the head's job. ``leave_running`` says of an exception that it
    ends this process but not the work. Raises ConfigError, ClusterError, SlurmError or
    TransportError.
    """
    session = _Session(place, wish, log, run_id, step_key, QueueWait(queue_timeout_s))
    name, lease = session.obtain(leave_running)
    try:
        yield SlurmCluster(place.handle(name), place.runs_dir, is_shared=True)
    except BaseException as error:
        if leave_running(error):
            lease.hand_over(HAND_OVER_S)
        else:
            lease.give_back()
        raise
    lease.give_back()


@dataclass(frozen=True)
class _Held:
    """A cluster that we lease."""

    name: str
    lease: Lease
    shape: Mapping[str, Any]
    is_up: bool
    """Ray runs on its head."""
    is_ours: bool = False
    """We made it just now."""


class _Session:
    def __init__(
        self,
        place: Place,
        wish: Wish,
        log: Callable[[str], None],
        run_id: str,
        step_key: str,
        wait: QueueWait,
    ) -> None:
        self._place = place
        self._wish = wish
        self._log = log
        self._step = (run_id, step_key)
        self._wait = wait

    def obtain(self, leave_running: Callable[[BaseException], bool]) -> tuple[str, Lease]:
        """A cluster on which Ray runs, and our lease on it."""
        what = f"Slurm, asked for a cluster of session {self._wish.session},"
        patience = Patience(what, self._log, self._wait)
        while True:
            # What an outage left half made is found by the next look, and used or removed.
            held = patience.insist(self._find_or_make)
            if held is None:
                time.sleep(_LOOK_AGAIN_S)
                continue
            try:
                if self._is_started(held):
                    return held.name, held.lease
            except BaseException as error:
                if leave_running(error):
                    held.lease.hand_over(HAND_OVER_S)
                else:
                    self._give_up(held)
                # Others may end a cluster for which we wait: then there has to be another one.
                is_other_s = isinstance(error, ClusterError) and not held.is_ours
                if is_other_s and self._wait.is_wanted():
                    self._log(f"Cluster {held.name} did not come up ({error}); looking for another")
                    continue
                raise
            self._give_up(held)

    # -- finding and making ----------------------------------------------------------------

    def _find_or_make(self) -> _Held | None:
        """None: look again in a moment."""
        found = choose(self._place.look(), self._wish)
        if found is not None:
            return self._leased(found)
        # Refuses what cannot be, before anybody has to wait for us.
        RayCluster(self._config(free_names(self._wish)[0]), self._place.transport)
        with self._place.lock().held() as is_ours:
            sightings = self._place.look()
            if choose(sightings, self._wish) is not None:
                return None
            name = self._free_name(sightings)
            self._tell_others(sightings)
            return None if name is None else self._made(name, is_ours)

    def _tell_others(self, sightings: Sequence[Sighting]) -> None:
        """Why the session's living clusters will not do."""
        for sighting in sightings:
            is_session_s = sighting.folder.session.get("session") == self._wish.session
            if is_session_s and sighting.is_usable and has_time_left(sighting):
                differs = differences(sighting.folder.session["shape"], self._wish.shape)
                self._log(f"Cluster {sighting.name} of session {self._wish.session} is of another "
                          f"shape ({'; '.join(differs[:3])})")  # fmt: skip

    def _leased(self, found: Sighting) -> _Held | None:
        """The cluster with our lease on it, unless it goes just now."""
        directory = self._place.directory(found.name)
        lease = Lease(self._place.transport, directory, *self._step)
        try:
            lease.take()
            # After the lease, see agent/head.py: with no tombstone now, the head sees the lease.
            names = self._place.transport.list_dir(directory)
        except FileNotFoundError:  # it was removed in between
            names = []
        except BaseException:
            lease.give_back()  # this process may live on, and would renew it
            raise
        if "closing" in names or "cluster.json" not in names:
            lease.give_back()
            tidy(self._place.transport, directory)
            return None
        head = found.folder.head
        is_up = head is not None and any(
            job.raw_id == head["job_id"] and not job.state.is_pending for job in found.heads
        )
        if is_up and head is not None:
            self._log(
                f"Cluster {found.name} of session {self._wish.session} is warm: Ray runs on "
                f"{head['host']} (Slurm job {head['job_id']})"
            )
        return _Held(found.name, lease, found.folder.session["shape"], is_up)

    def _free_name(self, sightings: Sequence[Sighting]) -> str | None:
        """A name that no living cluster has; what a dead one left is removed."""
        there = {sighting.name: sighting for sighting in sightings}
        for name in free_names(self._wish):
            before = there.get(name)
            if before is None:
                return name
            if not before.has_no_head:
                continue  # it is ending, or its head leaves too soon
            if before.is_certain or head_is_silent(
                self._place.transport, self._place.clusters_dir, before
            ):
                self._place.remove(name)
                return name
            if not before.folder.is_closing:
                return None  # the queue does not show it, but it gives signs of life
        raise ClusterError(
            f"session {self._wish.session!r}: too many of its clusters are ending; see "
            "compute.clusters()"
        )

    def _made(self, name: str, is_ours: Callable[[], bool]) -> _Held | None:
        place, wish = self._place, self._wish
        directory = place.directory(name)
        cluster = RayCluster(self._config(name), place.transport)
        # First: from its first moment on, the head looks for somebody who wants it.
        lease = Lease(place.transport, directory, *self._step)
        try:
            lease.take()
            data = json.dumps(wish.descriptor(), indent=1).encode()
            place.transport.write_file(f"{directory}/{SESSION_FILE}", data, mode=0o600)
            if not is_ours():
                lease.give_back()  # and no more: whoever has the lock may be making this cluster
                return None
            cluster.request_head()
        except BaseException as error:
            lease.give_back()
            if not is_outage(error):
                self._place.remove(name)
            raise
        self._log(f"Cluster {name} of session {wish.session} is asked for")
        return _Held(name, lease, wish.shape_to_make, is_up=False, is_ours=True)

    # -- starting --------------------------------------------------------------------------

    def _is_started(self, held: _Held) -> bool:
        """Wait until Ray runs on the head; False if there is no head any more."""
        if held.is_up:
            return True
        place = self._place
        config = config_of(held.shape, held.name, place.directory(held.name), place.ssh)
        cluster = RayCluster(config, place.transport)
        patience = Patience(f"the head of cluster {held.name}", self._log)
        nodes = patience.insist(cluster.nodes)
        heads = [node.node_id for node in nodes if node.kind == "head"]
        if not heads:
            return False
        with keeping_start_logs(cluster, place.runs_dir):
            try:
                await_host(cluster, heads[0], self._log, self._wait)
            except ClusterError as error:
                raise self._wait.explained(error, held.name) from error

            def start() -> Head:
                with place.lock(f"start-{held.name}").held():
                    return cluster.start_ray(heads[0])

            head = patience.insist(start)
        self._log(f"Cluster {held.name}: Ray runs on {head.host} (Slurm job {head.job_id})")
        return True

    def _give_up(self, held: _Held) -> None:
        """Without our lease; and withdraw a head that never came up and that nobody waits for."""
        held.lease.give_back()
        try:
            with self._place.lock().held():
                for sighting in self._place.look():
                    folder = sighting.folder
                    is_wanted = any(lease.is_alive for lease in folder.leases)
                    if folder.name == held.name and folder.head is None and not is_wanted:
                        self._place.remove(held.name)
        except _NO_ANSWER as error:
            self._log(
                f"Cluster {held.name} is not gone ({error}); "
                f"compute.cleanup_cluster({held.name!r}) tries again"
            )

    # -- small -----------------------------------------------------------------------------

    def _config(self, name: str) -> dict[str, Any]:
        place = self._place
        return config_of(self._wish.shape_to_make, name, place.directory(name), place.ssh)

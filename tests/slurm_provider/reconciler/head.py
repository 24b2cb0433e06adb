"""The head of a cluster without Ray processes: Ray's real autoscaler v2 over our provider.

What is real: SlurmNodeProvider and all below it down to the Slurm client, and Ray's adapter,
instance manager, scheduler and reconciler, put together as ray/autoscaler/v2/autoscaler.py does.
What is not: Slurm (in memory), time (turned by hand), the raylets (entries in a state that is
handed to the reconciler), threads (calls are made where the thread would make them).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.autoscaler.v2 import scheduler
from ray.autoscaler.v2.instance_manager import common, config, reconciler
from ray.autoscaler.v2.instance_manager import node_provider as adapter
from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import (
    CloudInstanceUpdater,
)
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler
from ray.core.generated import autoscaler_pb2 as pb
from ray.core.generated.instance_manager_pb2 import GetInstanceManagerStateRequest, Instance

from slurm_provider import bootstrap, cluster
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.identity import HEAD, JobIdentity, node_id, parse_job_name
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.node_provider import SlurmNodeProvider
from slurm_provider.slurm import Job, JobState, SlurmError, Submission
from slurm_provider.transport import LocalTransport
from tests.slurm_provider.reconciler.slurm_in_memory import SlurmInMemory

HEAD_LAUNCH = "headlaunch"
_START = 1_800_000_000.0
_RECONCILE = "RAY_AUTOSCALER_RECONCILE_"
HAS_PENDING_TIMEOUT = hasattr(config, "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S")


class Clock:
    """Time as the provider and Ray see it."""

    def __init__(self) -> None:
        self.now = _START

    def __call__(self) -> float:
        return self.now

    def as_module(self) -> Any:
        """In place of the module ``time`` in Ray's modules."""
        return SimpleNamespace(time=self, monotonic=self, time_ns=lambda: int(self.now * 1e9))


class HeadNode:
    """Slurm with a running head job, the cluster's directory, and the monitor process.

    ``start_monitor`` again is a restart of the monitor: all it had in memory is gone.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, provider: Mapping[str, Any]
    ) -> None:
        self.clock = Clock()
        self.slurm = SlurmInMemory(self.clock)
        self._raylets: dict[str, pb.NodeState] = {}
        self._demand: list[tuple[dict[str, float], int]] = []
        self._config_path = folder / "config.yaml"
        self.config = _resolved(str(folder / "cluster"), provider)
        self.store = ClusterStore(LocalTransport(), str(folder / "cluster"))
        uuid = self.store.create("demo")
        self.store.renew_token()
        identity = JobIdentity("demo", "head", uuid, HEAD, HEAD_LAUNCH, 0)
        head = self.slurm.carry_out(
            Submission("node.sh", provider_options={"job-name": identity.job_name})
        )
        self.slurm.set_state(head.job_id, JobState.RUNNING)
        self.head_job_id = head.job_id
        self._add_raylet(node_id(HEAD_LAUNCH, 0), "head", {"node:__internal_head__": 1.0})
        self._patch(monkeypatch)
        self.start_monitor()

    # -- the monitor process ---------------------------------------------------------------

    def start_monitor(self) -> None:
        self.write_config()
        self.fleets: list[Fleet] = []
        provider = SlurmNodeProvider(self.config["provider"], "demo")
        (self.fleet,) = self.fleets
        self._adapter = adapter.NodeProviderAdapter(
            provider, self._reader, _ENV["MAX_LAUNCH_BATCH"], _ENV["MAX_CONCURRENT_LAUNCHES"]
        )
        self._adapter._main_executor = _AtOnce()
        self._adapter._node_launcher_executors = _AtOnce()
        self._scheduler = ResourceDemandScheduler(None)
        subscribers: list[Any] = [CloudInstanceUpdater(cloud_provider=self._adapter)]
        self._monitor = _resource_monitor()
        subscribers += self._monitor.values()
        self._manager = InstanceManager(
            instance_storage=InstanceStorage("session", InMemoryStorage()),
            instance_status_update_subscribers=subscribers,
        )
        self._next_look = 0.0
        self.launch_errors: list[str] = []
        self.surprises: list[Exception] = []
        self.skipped_ticks = 0

    def write_config(self) -> None:
        """Hand ``config`` to the running monitor, as `ray up` on a running cluster does."""
        self._config_path.write_text(yaml.safe_dump(self.config))
        self._reader = config.FileConfigReader(str(self._config_path))
        if hasattr(self, "_adapter"):
            self._adapter._config_reader = self._reader

    def tick(self, count: int = 1, every_s: float = 1.0) -> None:
        """So many turns of the autoscaler's loop; the watcher looks when it would."""
        for _ in range(count):
            self.clock.now += every_s
            if self.fleet.wake.is_set() or self.clock.now >= self._next_look:
                self.look()
            self._reconcile()

    def look(self) -> None:
        """One turn of the watcher."""
        self.fleet.wake.clear()
        try:
            self.fleet.tick()
        except SlurmError:
            pass
        except Exception as error:  # the watcher's thread survives it, too
            self.surprises.append(error)
        self._next_look = self.clock.now + self.fleet.poll_interval_s()

    def _reconcile(self) -> None:
        try:
            listed = self._adapter.get_non_terminated()
        except Exception:  # as in v2/autoscaler.py: logged, and the tick is over
            self.skipped_ticks += 1
            return
        errors = self._adapter.poll_errors()
        self.launch_errors += [str(error.__cause__) for error in errors]
        reconciler.Reconciler.reconcile(
            instance_manager=self._manager,
            scheduler=self._scheduler,
            cloud_provider=self._adapter,
            ray_cluster_resource_state=self._cluster_state(),
            non_terminated_cloud_instances=listed,
            autoscaling_config=self._reader.get_cached_autoscaling_config(),
            cloud_provider_errors=errors,
            **self._monitor,
        )

    # -- what Ray knows --------------------------------------------------------------------

    def demand(self, tasks: int, cpus: float = 2.0) -> None:
        """So many tasks that nobody has taken yet."""
        self._demand = [({"CPU": cpus}, tasks)]

    def join(self, job: Job, *, busy: bool = True) -> str:
        """The job runs and its raylet registers; the node's id."""
        self.slurm.set_state(job.job_id, JobState.RUNNING)
        identifier = node_of(job)
        self.report(identifier, state="joined", joined=self.clock.now)
        identity = parse_job_name(job.name)
        assert identity is not None
        self._add_raylet(identifier, identity.node_type, {"CPU": 2.0}, busy=busy)
        return identifier

    def raylet_dies(self, identifier: str) -> None:
        self._raylets[identifier].status = pb.NodeStatus.DEAD

    def report(self, identifier: str, **values: Any) -> None:
        """What the node's agent writes."""
        path = self.store.paths.report(identifier)
        data = json.dumps({"node_id": identifier, **values}).encode()
        self.store.transport.write_file(path, data)

    def instances(self, *statuses: str) -> list[Any]:
        """Ray's records; ``statuses`` such as RAY_RUNNING select."""
        state = self._manager.get_instance_manager_state(GetInstanceManagerStateRequest()).state
        wanted = {Instance.InstanceStatus.Value(status) for status in statuses}
        return [i for i in state.instances if not wanted or i.status in wanted]

    @property
    def listed(self) -> list[str]:
        """What the provider tells Ray."""
        return sorted(self._adapter.get_non_terminated())

    def launch(self, node_type: str, count: int) -> None:
        """As a thread of Ray's launch pool does."""
        self._adapter._launch_nodes_by_type(node_type, count, "request")

    def terminate(self, *identifiers: str) -> None:
        """As Ray's terminate thread does."""
        self._adapter._v1_terminate_nodes(list(identifiers))

    def _add_raylet(
        self, identifier: str, node_type: str, resources: Mapping[str, float], busy: bool = True
    ) -> None:
        state = pb.NodeState(
            node_id=identifier.encode().ljust(28, b"_"),
            instance_id=identifier,
            ray_node_type_name=node_type,
            status=pb.NodeStatus.RUNNING if busy else pb.NodeStatus.IDLE,
            total_resources=resources,
            available_resources={} if busy else resources,
        )
        self._raylets[identifier] = state

    def _cluster_state(self) -> pb.ClusterResourceState:
        return pb.ClusterResourceState(
            cluster_resource_state_version=int(self.clock.now),
            node_states=list(self._raylets.values()),
            pending_resource_requests=[
                pb.ResourceRequestByCount(
                    request=pb.ResourceRequest(resources_bundle=bundle), count=count
                )
                for bundle, count in self._demand
                if count
            ],
        )

    # -- what is not real ------------------------------------------------------------------

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def make_fleet(*args: Any, **kwargs: Any) -> Fleet:
            fleet = Fleet(*args, **kwargs, clock=self.clock)
            self.fleets.append(fleet)
            return fleet

        monkeypatch.setattr(cluster, "Fleet", make_fleet)
        monkeypatch.setattr(cluster, "Watcher", _NoThread)
        monkeypatch.setattr(cluster, "SlurmClient", lambda *_, **__: self.slurm)
        for module in (common, reconciler, adapter, scheduler):
            if hasattr(module, "time"):
                monkeypatch.setattr(module, "time", self.clock.as_module())
        # Ray reads these once, when it is imported: here as on the head (bootstrap.autoscaler_env).
        limits = config.InstanceReconcileConfig(
            **{
                name.removeprefix(_RECONCILE).lower(): int(value)
                for name, value in bootstrap.autoscaler_env(_provider_config()).items()
                if name.startswith(_RECONCILE)
            }
        )
        monkeypatch.setattr(
            config.AutoscalingConfig, "get_instance_reconcile_config", lambda _: limits
        )
        monkeypatch.setattr(
            config, "AUTOSCALER_MAX_CONCURRENT_LAUNCHES", _ENV["MAX_CONCURRENT_LAUNCHES"]
        )
        if HAS_PENDING_TIMEOUT:
            name = "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S"
            monkeypatch.setattr(config, name, 60)


def node_of(job: Job) -> str:
    """The id of a job's Ray node."""
    identity = parse_job_name(job.name)
    assert identity is not None
    index = identity.index if identity.index is not None else int(job.job_id.partition("_")[2])
    return node_id(identity.launch, index)


def _provider_config() -> Any:
    from slurm_provider.config import parse_provider

    return parse_provider({})


_ENV = {
    name.removeprefix("AUTOSCALER_"): int(value)
    for name, value in bootstrap.autoscaler_env(_provider_config()).items()
    if name.startswith("AUTOSCALER_")
}


def _resolved(cluster_dir: str, provider: Mapping[str, Any]) -> dict[str, Any]:
    """A user's YAML after all that `ray up` does to it."""
    section = {
        "type": "external",
        "module": "slurm_provider.SlurmNodeProvider",
        "cluster_dir": cluster_dir,
        "defaults": {"partition": "compute"},
        **provider,
    }
    commands: dict[str, Any] = {f"{who}setup_commands": [] for who in ("", "head_", "worker_")}
    user = {
        "cluster_name": "demo",
        "max_workers": 500,
        "provider": section,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"node_config": {"cpus-per-task": 1}, "resources": {"CPU": 0}},
            "cpu": {"node_config": {"cpus-per-task": 2}, "resources": {}, "max_workers": 500},
        },
        **commands,
    }
    return bootstrap.for_head(bootstrap.resolve(bootstrap.fillout(user)))


def _resource_monitor() -> dict[str, Any]:
    """Newer Rays want one more part."""
    if (
        "cloud_resource_monitor"
        not in inspect.signature(reconciler.Reconciler.reconcile).parameters
    ):
        return {}
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
        CloudResourceMonitor,
    )

    return {"cloud_resource_monitor": CloudResourceMonitor()}


class _NoThread:
    def __init__(self, fleet: Fleet) -> None:
        pass

    def start(self) -> None:
        pass


class _AtOnce:
    """An executor that does the work in the caller's thread."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        work(*args)
        return Future()

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_glue import (
    BashLauncher,
    ComputeResource,
    ConfigError,
    ExecutionMode,
    RayLauncher,
    SlurmResource,
)
from dagster_glue.acquire import ClusterRequest, acquired, local_options
from dagster_glue.clusters import existing
from dagster_glue.clusters.existing import ExistingCluster
from dagster_glue.clusters.per_asset import cluster_name
from slurm_provider.transport import ConnectFailed


def acquire(mode: ExecutionMode, launcher: RayLauncher | None = None) -> Any:
    request = ClusterRequest(mode, launcher or RayLauncher(), "run", "step", slurm=SlurmResource())
    with acquired(request, lambda words: None, lambda error: False) as cluster:
        return cluster


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_a_named_cluster_is_used_in_every_mode(mode: ExecutionMode, web: Web) -> None:
    web.answer = 200, b'{"ray_version": "2.60.0"}'
    cluster = acquire(mode, RayLauncher(ray_address=f"{web.address}/"))
    assert cluster.open_jobs().address == web.address


def test_a_named_address_where_something_else_answers_is_refused(web: Web) -> None:
    for web.answer in ((404, b"not here"), (200, b'{"name": "another service"}'), (200, b"{}")):
        with pytest.raises(ConfigError, match=f"{web.address}: what answers there is no Ray"):
            acquire(ExecutionMode.SLURM, RayLauncher(ray_address=web.address))


@pytest.mark.parametrize("status", [401, 403])
def test_a_dashboard_that_refuses_the_token_is_left_to_the_job_s_first_question(
    web: Web, status: int
) -> None:
    web.answer = status, b"Unauthorized"
    cluster = acquire(ExecutionMode.SLURM, RayLauncher(ray_address=web.address))
    assert cluster.open_jobs().address == web.address


def test_a_named_address_where_nothing_answers_is_not_waited_for_without_end(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing, "FIRST_CONTACT_S", 0.2)
    web.server_close()
    with pytest.raises(ConnectFailed, match=f"ray_address {web.address} has given no answer"):
        acquire(ExecutionMode.SLURM, RayLauncher(ray_address=web.address))


class Web(http.server.ThreadingHTTPServer):
    answer = (503, b"")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Web)
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://"])
def test_an_address_that_is_no_dashboard_s_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="give http://host:port"):
        ExistingCluster(address)


def test_the_token_for_a_named_cluster_is_the_one_that_ray_would_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = ExistingCluster("http://head:8265")
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert cluster.open_jobs().headers == {"Authorization": "Bearer from-file"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-variable")
    assert cluster.open_jobs().headers == {"Authorization": "Bearer from-variable"}
    assert "from-variable" not in repr(cluster.open_jobs())


def test_the_local_runtime_is_large_enough_for_the_default_and_the_run_s_launcher() -> None:
    default = RayLauncher(num_cpus_per_node=32, num_gpus_per_node=1, object_store_memory_gb=1)
    of_run = RayLauncher(num_cpus_per_node=16, num_gpus_per_node=4, ray_args=["--log-style=pretty"])
    assert local_options([default, of_run], cpus_here=8) == {
        "num_cpus": 32,
        "num_gpus": 4,
        "object_store_memory_mb": 1024,
        "ray_args": ("--log-style=pretty",),
        "env": {"RAY_prestart_worker_first_driver": "0"},
    }


def test_the_local_runtime_has_all_of_this_machine_where_that_is_more() -> None:
    assert "num_cpus" not in local_options([RayLauncher(num_cpus_per_node=2)], cpus_here=8)
    assert local_options([None, BashLauncher()], cpus_here=8) == {"ray_args": ()}


class Packed(Exception):
    """The cluster's environment was asked for."""


class Environment:
    def ensure(self, *arguments: Any, **options: Any) -> dict[str, str]:
        raise Packed


def test_a_run_that_retries_another_looks_for_its_cluster_below_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SLURM_DEPLOYMENT_BASE_PATH", raising=False)
    earlier = tmp_path / "dagster-ray" / "clusters" / cluster_name("before", "step")
    earlier.mkdir(parents=True)
    (earlier / "cluster.json").write_text('{"uuid": "0123456789ab", "name": "x"}')
    request = ClusterRequest(
        ExecutionMode.SLURM, RayLauncher(), "run", "step", slurm=SlurmResource(),
        environment=Environment(), retried_run_ids=["before"],
    )  # fmt: skip
    said: list[str] = []
    with pytest.raises(Packed), acquired(request, said.append, lambda error: False):
        pass
    assert said == [f"Cluster {earlier.name} of the run that this one retries is still there"]


def test_an_unknown_local_runtime_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no cluster 'local-abc' \(any more\); there are: "):
        ComputeResource(mode="local").cleanup_cluster("local-abc")


def test_a_cluster_id_cannot_lead_out_of_the_folder_of_clusters() -> None:
    compute = ComputeResource(mode="slurm", slurm=SlurmResource(remote_base="/nowhere"))
    with pytest.raises(ConfigError, match="cannot be one: use letters"):
        compute.cleanup_cluster("../../home")

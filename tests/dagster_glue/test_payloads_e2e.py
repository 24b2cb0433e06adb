"""What reaches a payload on Slurm, and what comes back from it, over SSH."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_glue import (
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SlurmSessionResource,
    SSHConnectionResource,
)
from dagster_glue.clusters.place import place_of
from sandbox import cgroups
from tests.dagster_glue.assets import failure_of, metadata_of
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import RunningSandbox

pytestmark = pytest.mark.sandbox

SCRIPT = """
import os, sys

import ray
from dagster_pipes import open_dagster_pipes
from lib.helper import shout


@ray.remote
def work(text):
    return shout(text), os.environ["GREETING"]


with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    loud, greeting = ray.get(work.remote(open("words.txt").read()))
    pipes.report_asset_materialization(metadata={
        "loud": loud, "greeting": greeting, "argv": sys.argv[1:], "lr": pipes.get_extra("lr")})
"""
MODULE = """
import os, sys

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_asset_materialization(
        metadata={"argv": sys.argv[1:], "files": sorted(os.listdir("."))})
"""
MANY = """
import sys, threading

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote
def chat():
    for i in range(1000):
        print("the same from each worker", "x" * 500)


def bars():
    for i in range(500):
        sys.stdout.write(f"\\r{i} of 500"); sys.stdout.flush()
        sys.stderr.write("no line end " * 20)


with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    talk = [chat.options(num_cpus=0.5).remote() for _ in range(2)]
    noise = threading.Thread(target=bars)
    noise.start()
    for i in range(3):
        pipes.report_custom_message(str(i) * 5_000_000)
    for i in range(10_000):
        pipes.report_custom_message(i)
    ray.get(talk)
    noise.join()
"""
EXPECTED = [*(str(i) * 5_000_000 for i in range(3)), *range(10_000)]
HOG = """
import sys

import ray
from dagster_pipes import open_dagster_pipes


def hog():
    return len(b"x" * (3 << 30))


with open_dagster_pipes():
    ray.init(address="auto")
    hog() if sys.argv[1] == "driver" else ray.get(ray.remote(max_retries=0)(hog).remote())
"""
# Fails, then succeeds without a word, then succeeds.
THIRD_TIME = """
import os, sys

from dagster_pipes import open_dagster_pipes

attempt = len(os.listdir(sys.argv[1]))
open(os.path.join(sys.argv[1], str(attempt)), "w").close()


def deep():
    raise ValueError("learning rate must be positive")


if attempt != 1:
    with open_dagster_pipes() as pipes:
        if attempt == 0:
            deep()
        pipes.report_asset_materialization(metadata={"attempt": attempt})
"""


@pytest.fixture(scope="module")
def site(sandbox: RunningSandbox) -> Iterator[SlurmResource]:
    """Its clusters and its folder are gone afterwards."""
    base = Path(sandbox.info["users"]["user1"]["home"]) / "glue-payloads"
    made = SlurmResource(
        ssh=SSHConnectionResource(**ssh_section(sandbox)),
        queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1G"),
        remote_base=str(base),
    )
    yield made
    compute = compute_of(made, "slurm")
    for cluster in compute.clusters():
        compute.cleanup_cluster(cluster.cluster_id)
    shutil.rmtree(base, ignore_errors=True)


def compute_of(site: SlurmResource, mode: str, **more: Any) -> ComputeResource:
    return ComputeResource(
        mode=mode,
        slurm=site,
        session=SlurmSessionResource(name="payloads", cluster_idle_timeout=120),
        default_launcher=RayLauncher(num_cpus_per_node=1, max_workers=1, head_mem="1200M"),
        **more,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asset(
    name: str, compute: ComputeResource, payload: str, *, retries: int = 0, **arguments: Any
) -> dg.AssetsDefinition:
    policy = dg.RetryPolicy(max_retries=retries) if retries else None

    @dg.asset(name=name, retry_policy=policy)
    def run(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        done = compute.run(context, payload, **arguments)
        messages.extend(done.get_custom_messages())
        yield from done.get_results()

    messages: list[Any] = []
    run.messages = messages  # type: ignore[attr-defined]
    return run


def test_scripts_and_modules_get_their_arguments_files_and_variables(
    site: SlurmResource, folder: Path
) -> None:
    for path, text in {
        "a script.py": SCRIPT,
        "words.txt": "hello",
        "lib/helper.py": "def shout(text): return text.upper()",
        "work/train/__init__.py": "",
        "work/train/entrypoint.py": MODULE,
        "work/.gitignore": "*.bin\n",
        "work/data.bin": "left out",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    compute = compute_of(site, "slurm-session")
    arguments = "--name 'two words' '$HOME' \"it's\" '*'"
    script = asset(
        "script", compute, f"'a script.py' {arguments}",
        extra_files=["words.txt", "lib"], extra_env={"GREETING": "hello you"}, extras={"lr": 0.5},
    )  # fmt: skip
    module = asset(
        "module", compute, f"python -m train.entrypoint {arguments}",
        launcher=RayLauncher(
            num_cpus_per_node=1, max_workers=1, head_mem="1200M", working_dir="work"
        ),
    )  # fmt: skip

    result = dg.materialize([script, module])

    given = ["--name", "two words", "$HOME", "it's", "*"]
    said = metadata_of(result, "script")
    expected = {"loud": "HELLO", "greeting": "hello you", "argv": given, "lr": 0.5}
    assert {name: said[name] for name in expected} == expected
    other = metadata_of(result, "module")
    assert (other["argv"], other["files"]) == (given, [".gitignore", "train"])
    assert other["cluster_id"] == said["cluster_id"]


def test_no_message_is_lost_among_large_ones_many_bars_and_chatty_workers(
    site: SlurmResource, folder: Path
) -> None:
    (folder / "many.py").write_text(MANY)
    folding = compute_of(site, "slurm-session")
    chatty = compute_of(site, "slurm-session", all_worker_logs=True)
    assets = [asset("folding", folding, "many.py"), asset("chatty", chatty, "many.py")]

    assert dg.materialize(assets).success

    for each in assets:
        assert each.messages == EXPECTED


def test_memory_and_missing_packages_are_told_apart_from_a_mistake_of_the_payload(
    site: SlurmResource, folder: Path
) -> None:
    compute = compute_of(site, "slurm-session")
    assets = []
    for name, line in {"hungry": "bytearray(1 << 62)", "lacking": "import no_such_module"}.items():
        opened = "from dagster_pipes import open_dagster_pipes\nwith open_dagster_pipes():\n"
        (folder / f"{name}.py").write_text(f"{opened}    {line}\n")
        assets.append(asset(name, compute, f"{name}.py"))

    result = dg.materialize(assets, raise_on_error=False)

    memory, module = (failure_of(result, name) for name in ("hungry", "lacking"))
    assert memory.metadata["failure_kind"].value == "out_of_memory"
    assert "MemoryError" in str(memory.description)
    assert module.metadata["failure_kind"].value == "environment"
    assert "No module named 'no_such_module'" in str(module.description)


def test_where_no_files_are_shared_the_job_s_log_brings_all_messages(
    site: SlurmResource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "many.py").write_text(MANY)
    (made,) = compute_of(site, "slurm-session").clusters()
    handle = place_of(site).handle(made.cluster_id)
    tunnel = handle.dashboard()
    try:
        monkeypatch.setenv("RAY_AUTH_TOKEN", str(handle.token()))
        # Known by an address alone, so Dagster knows of no folder there.
        launcher = RayLauncher(ray_address=f"http://127.0.0.1:{tunnel.port}")
        many = asset("many", compute_of(site, "slurm"), "many.py", launcher=launcher)
        result = dg.materialize([many])
    finally:
        tunnel.close()
    assert many.messages == EXPECTED
    assert "run_log" not in metadata_of(result, "many")


def test_what_the_kernel_kills_for_memory_is_told_so_be_it_the_driver_or_a_task(
    site: SlurmResource, folder: Path, sandbox: RunningSandbox
) -> None:
    if sandbox.info["proctrack"] != "cgroup" or not cgroups.can_limit_memory():
        pytest.skip("without memory cgroups Slurm enforces no limit here")
    (folder / "hog.py").write_text(HOG)
    compute = compute_of(site, "slurm-session")
    assets = [asset(name, compute, f"hog.py {name}") for name in ("driver", "task")]

    result = dg.materialize(assets, raise_on_error=False)

    driver, task = (failure_of(result, name) for name in ("driver", "task"))
    assert driver.metadata["failure_kind"].value == "out_of_memory"
    assert "the kernel killed 1 of its processes for memory" in str(driver.description)
    assert task.metadata["failure_kind"].value == "out_of_memory"
    assert "the kernel killed processes for memory on node " in str(task.description)


def test_retries_go_on_with_the_warm_cluster_until_one_succeeds(
    site: SlurmResource, folder: Path, sandbox: RunningSandbox
) -> None:
    assert site.remote_base is not None
    attempts = f"{site.remote_base}/attempts"
    sandbox.run("mkdir", "-p", attempts)
    (folder / "third.py").write_text(THIRD_TIME)
    tried = asset("tried", compute_of(site, "slurm"), f"third.py {attempts}", retries=2)

    result = dg.materialize([tried], raise_on_error=False)

    raised, silent = errors_of_retries(result)
    assert "[payload]" in raised
    assert "in deep" in raised
    assert "ValueError: learning rate must be positive" in raised
    assert "the Ray job succeeded, but it never opened Dagster Pipes" in silent
    said = metadata_of(result, "tried")
    assert said["attempt"] == 2
    assert len(said["slurm_job_ids"]) == 1  # the head of the first attempt
    assert said["cluster_id"] not in sandbox.run("ls", f"{site.remote_base}/clusters").stdout


def errors_of_retries(result: dg.ExecuteInProcessResult) -> Sequence[str]:
    return [
        str(event.step_retry_data.error)
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY
    ]

"""What the kernel's files say of its kills for memory, in both versions of cgroups."""

from __future__ import annotations

import builtins
import io
from typing import Any

import pytest

from slurm_provider.agent.memory_kills import memory_kills

V1 = "11:memory:/slurm/uid_1/job_7/step_batch\n4:cpu,cpuacct:/slurm/uid_1/job_7\n"
V2 = "0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0\n"
V1_ROOT = "/sys/fs/cgroup/memory/slurm/uid_1/job_7"
V2_ROOT = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_batch"


def kills(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> int:
    def opened(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).startswith(("/proc/self/cgroup", "/sys/fs/cgroup")):
            if path not in files:
                raise FileNotFoundError(path)
            return io.StringIO(files[path])
        return real(path, *arguments, **options)

    real = builtins.open
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        return memory_kills()


def test_the_job_s_count_is_found_above_the_step_s(monkeypatch: pytest.MonkeyPatch) -> None:
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
    files = {
        "/proc/self/cgroup": V1,
        f"{V1_ROOT}/step_batch/memory.oom_control": control.format(1),
        f"{V1_ROOT}/memory.oom_control": control.format(2),
    }
    assert kills(monkeypatch, files) == 2


def test_version_2_counts_in_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 3\n"
    files = {"/proc/self/cgroup": V2, f"{V2_ROOT}/memory.events": events}
    assert kills(monkeypatch, files) == 3


@pytest.mark.parametrize("cgroup", [None, "", "4:cpu:/x\n", "11:memory:/\n"])
def test_a_machine_that_does_not_say_has_none(
    monkeypatch: pytest.MonkeyPatch, cgroup: str | None
) -> None:
    assert kills(monkeypatch, {} if cgroup is None else {"/proc/self/cgroup": cgroup}) == 0

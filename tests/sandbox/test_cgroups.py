from __future__ import annotations

from pathlib import Path

from sandbox import cgroups


def v1(root: Path) -> Path:
    for controller in ("freezer", "memory", "unified"):
        (root / controller).mkdir()
    return root


def v2(root: Path) -> Path:
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    return root


def test_one_tree_is_v2_and_one_per_controller_is_v1(tmp_path: Path) -> None:
    assert cgroups.version(tmp_path) is None
    assert cgroups.version(v1(tmp_path)) == "v1"
    assert cgroups.version(v2(tmp_path)) == "v2"


def test_memory_can_be_limited_only_with_the_memory_controller(tmp_path: Path) -> None:
    v1(tmp_path)
    assert not cgroups.can_limit_memory(tmp_path)
    (tmp_path / "memory" / "memory.limit_in_bytes").touch()
    assert cgroups.can_limit_memory(tmp_path)
    v2(tmp_path)
    assert cgroups.can_limit_memory(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu hugetlb\n")
    assert not cgroups.can_limit_memory(tmp_path)


def test_only_the_groups_of_the_named_hosts_are_removed(tmp_path: Path) -> None:
    for group in (
        "freezer/slurm_n1/uid_1/job_2",
        "memory/slurm_n1",
        "freezer/slurm_n2",
        "system.slice/n1_slurmstepd.scope/job_3",
        "system.slice/cron.service",
    ):
        (tmp_path / group).mkdir(parents=True)
    cgroups.remove_leftovers(["n1"], tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {"freezer/slurm_n2", "system.slice/cron.service"}


def test_under_v2_the_parent_of_slurms_groups_is_made_and_removed_again(tmp_path: Path) -> None:
    cgroups.make_parent_of_scopes(v2(tmp_path))
    assert (tmp_path / "system.slice").is_dir()
    cgroups.remove_leftovers(["n1"], tmp_path)
    assert not (tmp_path / "system.slice").exists()

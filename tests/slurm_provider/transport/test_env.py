from __future__ import annotations

import pytest

from slurm_provider.transport.env import scrubbed


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_JOB_ID",
        "SLURM_CLUSTERS",
        "SLURM_CONF_SERVER",
        "SBATCH_PARTITION",
        "SRUN_DEBUG",
        "SALLOC_ACCOUNT",
        "SQUEUE_FORMAT",
        "SACCT_FORMAT",
        "SINFO_SORT",
        "SCANCEL_STATE",
        "SCONTROL_ALL",
        "SPANK_X",
        "RAY_OVERRIDE_RESOURCES",
    ],
)
def test_a_variable_that_steers_slurm_or_ray_is_dropped(name: str) -> None:
    assert scrubbed({name: "x"}) == {"LC_ALL": "C"}


@pytest.mark.parametrize(
    "name", ["SLURM_CONF", "PATH", "HOME", "PYTHONPATH", "RAYON_NUM_THREADS", "MY_SLURM_X"]
)
def test_other_variables_are_kept(name: str) -> None:
    assert scrubbed({name: "x"})[name] == "x"


def test_the_locale_becomes_c_unless_a_person_is_addressed() -> None:
    assert scrubbed({"LC_ALL": "de_DE.UTF-8"})["LC_ALL"] == "C"
    assert scrubbed({"LC_ALL": "de_DE.UTF-8"}, keep_locale=True)["LC_ALL"] == "de_DE.UTF-8"

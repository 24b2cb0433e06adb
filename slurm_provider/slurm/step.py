"""srun: its argv for a command inside a job that is already running (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from slurm_provider.slurm.output_path import escaped_pattern


def step_argv(
    job_id: str,
    command: Sequence[str],
    *,
    cpus: int,
    component: int | None = None,
    clusters: str | None = None,
    tty: bool = False,
    unbuffered: bool = False,
) -> list[str]:
    """Run ``command`` beside what the job runs already, with all of the job's ``cpus``.

    ``job_id`` is the raw id: srun takes no ``111_1``. Of a heterogeneous job it is the first
    component's, and ``component`` is the number of the one that is meant: srun takes nothing else.
    ``clusters`` names the Slurm cluster of the job, None for the local one.
    No memory or CPU binding is asked for, as
    srun warns about each where a site has switched it off.

    Slurm passes output on by whole lines. ``unbuffered`` passes on every byte at once, at the
    price of a (raw) terminal as the command's standard output, which makes programs print colours
    and tar refuse to write (22.05).
    """
    return [
        "srun",
        *([] if clusters is None else [f"--clusters={clusters}"]),
        *_place(job_id, component),
        "--overlap",  # shares the job's resources; without it the step waits for them
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={cpus}",
        "--quiet",
        _ENVIRONMENT,
        "--chdir=/",
        "--mpi=none",
        # srun refuses both at once.
        "--pty" if tty else "--input=all",
        *(["--unbuffered"] if unbuffered else []),
        *command,
    ]


def agent_argv(
    leader_id: str, component: int, command: Sequence[str], *, cpus: int, log: str,
    variables: Sequence[str],
) -> list[str]:  # fmt: skip
    """Run a node's agent in a component of a heterogeneous job, which has no batch script.

    Its output is appended to ``log``; of srun's own environment it gets ``variables``. srun lives
    as long as the command.
    """
    return [
        "srun",
        *_place(leader_id, component),
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={cpus}",
        "--quiet",
        f"--export={','.join(variables)}",
        "--chdir=/",
        "--mpi=none",
        "--input=none",
        f"--output={escaped_pattern(log)}",
        "--open-mode=append",
        *command,
    ]


def _place(job_id: str, component: int | None) -> list[str]:
    group = [] if component is None else [f"--het-group={component}"]
    return [f"--jobid={job_id}", *group]


# Enough to start bash; the node's own environment comes from its shell file. The default, ALL,
# would bring in the variables of the shell that `ray exec` was typed in.
_ENVIRONMENT = "--export=HOME,USER,LOGNAME,TERM,PATH=/usr/local/bin:/usr/bin:/bin"

"""(a) `ray up` until the head's GCS answers, against a bare srun of `ray start --head`."""

from __future__ import annotations

from benchmarks.bare_ray import bare_ray
from benchmarks.our_ray import our_ray
from benchmarks.report import Findings, Line, at
from benchmarks.sandbox_user import SandboxUser, read_stamp

GCS = "GCS answers"
COMPLETE = "complete"


def measure(user: SandboxUser, repeats: int) -> Findings:
    """One after the other in turns, so that both sides see the same machine."""
    cli: list[float] = []
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in range(repeats):
        cli.append(_command_line(user))
        with bare_ray(user) as ray, ray.head_by_srun() as moments:
            bare.append(dict(moments))
        with our_ray(user) as cluster:
            ours.append(cluster.up())
    return Findings(
        (
            Line("a", "head until its GCS answers", at(ours, GCS), at(bare, GCS), aim_ratio=1.2),
            Line("a", "  of it Ray's own command line (`ray --version`; ours needs it twice)",
                 tuple(cli), tuple(cli)),
            Line("a", "  the same without the command line of `ray up` itself",
                 tuple(t - c for t, c in zip(at(ours, GCS), cli, strict=True)), at(bare, GCS)),
            Line("a", "head until the command is complete",
                 at(ours, COMPLETE), at(bare, COMPLETE)),
        ),
        {"`ray up`": ours, "bare srun": bare},
    )  # fmt: skip


def _command_line(user: SandboxUser) -> float:
    with user.folder() as folder:
        start, end = folder / "start", folder / "end"
        user.run("bash", "-c", 'echo "$EPOCHREALTIME" > "$0"; ray --version; '
                 'echo "$EPOCHREALTIME" > "$1"', str(start), str(end))  # fmt: skip
        return read_stamp(end) - read_stamp(start)

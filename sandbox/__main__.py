"""`python3 -m sandbox`: boot a real Slurm on this machine, use it, take it down."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import get_args

from . import report, run
from .errors import SandboxError
from .layout import Proctrack, Shape
from .sandbox import PAUSABLE, Sandbox

_SHAPE_OPTIONS = ("hosts", "cpus", "memory_mb", "gpus", "proctrack")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return _do(args, Sandbox(say=lambda line: print(f"sandbox: {line}", flush=True)))
    except SandboxError as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; `down` removes what there is", file=sys.stderr)
        return 130


def _do(args: argparse.Namespace, sandbox: Sandbox) -> int:
    match args.command:
        case "up":
            shape = {name: getattr(args, name) for name in _SHAPE_OPTIONS}
            wishes = {name: value for name, value in shape.items() if value is not None}
            sandbox.up(wishes, env_prefix=args.env)
        case "run":
            return _run(args, sandbox)
        case "info":
            facts = report.info(sandbox.state(), sandbox.paths)
            print(json.dumps(facts, indent=2) if args.json else _as_lines(facts))
        case "status":
            print("\n".join(report.status_lines(sandbox.state(), sandbox.paths)))
        case "kill":
            sandbox.kill(args.host)
        case "start":
            sandbox.start(args.host)
        case "pause":
            sandbox.pause(args.daemon)
        case "resume":
            sandbox.resume(args.daemon)
        case "down":
            sandbox.down()
    return 0


def _run(args: argparse.Namespace, sandbox: Sandbox) -> int:
    command = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if not command:
        raise SandboxError("run: which command? For example `run --user user1 -- sinfo`.")
    state = sandbox.state()
    env = run.user_env(args.user, sandbox.paths, state.env_prefix)
    if args.host is None:
        run.run_on_edge(command, args.user, env)
    return run.run_on_host(command, args.user, env, sandbox.host_init(args.host))


def _as_lines(facts: dict[str, object], prefix: str = "") -> str:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines.append(_as_lines(value, f"{prefix}{key}."))
        else:
            lines.append(f"{prefix}{key} = {value}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="boot (or repair) and wait until every host is idle")
    shape = Shape()
    for option, default, meaning in (
        ("--hosts", shape.hosts, "compute hosts"),
        ("--cpus", shape.cpus, "CPUs of each host, may exceed the machine's"),
        ("--memory-mb", shape.memory_mb, "memory of each host in MB"),
        ("--gpus", shape.gpus, "GPUs of each host"),
    ):
        up.add_argument(option, type=int, metavar="N", help=f"{meaning} (default {default})")
    up.add_argument(
        "--proctrack",
        choices=get_args(Proctrack),
        help=f"how Slurm finds the processes of a step (default {shape.proctrack}); "
        "cgroup also limits memory where the machine can",
    )
    up.add_argument(
        "--env",
        metavar="PREFIX",
        help="Python environment whose bin/ comes first on the users' PATH "
        "(default: the virtual environment this runs in, if any)",
    )

    run_ = commands.add_parser("run", help="run a command on the edge node or on a host")
    run_.add_argument("--user", metavar="NAME", help="as this user, in their home (default: you)")
    run_.add_argument("--host", metavar="HOST", help="on this host (default: the edge node)")
    run_.add_argument("argv", nargs=argparse.REMAINDER, metavar="[--] CMD ...")

    info = commands.add_parser("info", help="paths, addresses, users and hosts")
    info.add_argument("--json", action="store_true")
    commands.add_parser("status", help="what runs and what does not")
    for name, meaning in (
        ("kill", "power loss: every process of the host dies at once"),
        ("start", "power a host on and wait until it takes jobs"),
    ):
        commands.add_parser(name, help=meaning).add_argument("host", metavar="HOST")
    for name, meaning in (
        ("pause", "freeze a daemon: it is reached but never answers"),
        ("resume", "let a frozen daemon go on"),
    ):
        commands.add_parser(name, help=meaning).add_argument("daemon", choices=PAUSABLE)
    commands.add_parser("down", help="remove everything, the data folder included")
    return parser


if __name__ == "__main__":
    sys.exit(main())

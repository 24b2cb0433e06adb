"""What a sandbox has started, in one JSON file, written before each next step can fail."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .layout import Shape
from .processes import ProcessId


@dataclass
class State:
    """The sandbox on record. `processes` are keyed by name: slurmctld, host-n1, slurmd-n1, ..."""

    shape: Shape
    boot_id: str
    env_prefix: str | None = None
    is_complete: bool = False
    has_firewall_rule: bool = False
    has_sshd_folder: bool = False
    processes: dict[str, ProcessId] = field(default_factory=dict)

    def is_of_this_boot(self) -> bool:
        """False after a reboot of the machine: then no recorded process can be ours."""
        return self.boot_id == current_boot_id()

    def save(self, path: Path) -> None:
        scratch = path.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(asdict(self), out, indent=1)
        scratch.replace(path)


def load_state(path: Path) -> State | None:
    """The recorded state; None if there is none, or it was not written to its end."""
    try:
        raw = json.loads(path.read_text())
        return State(
            shape=Shape(**raw["shape"]),
            boot_id=raw["boot_id"],
            env_prefix=raw["env_prefix"],
            is_complete=raw["is_complete"],
            has_firewall_rule=raw["has_firewall_rule"],
            has_sshd_folder=raw["has_sshd_folder"],
            processes={name: ProcessId(**process) for name, process in raw["processes"].items()},
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def current_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

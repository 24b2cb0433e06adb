"""Heterogeneous jobs: Slurm runs the batch script in the first component only, which is the head;
its agent starts those of the other components, each as a step of its own, and lets go of a
component whose agent has ended.

A signal to srun would kill its step at once (TERM too, 22.05), so nobody sends one: when the head
leaves, the job ends, and Slurm ends the steps as it ends jobs, with time to clean up.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict
from typing import Any

from slurm_provider.agent.allocation import job_started
from slurm_provider.agent.hetjob import VARIABLE, Component, read_component
from slurm_provider.agent.node import Node
from slurm_provider.slurm.step import agent_argv

_BATCH_VARIABLES = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LC_ALL", "SLURM_CONF")
_RELEASE_AGAIN_S = 30.0


class OtherComponents:
    """The agents of the components beside the head's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._started = job_started(os.environ, time.time())
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: dict[int, float] = {}  # component -> when to ask Slurm (again) to take it
        self._releases: dict[int, subprocess.Popen[bytes]] = {}
        self._has_begun = False

    def start(self) -> None:
        """Start them, once: as soon as there is a head that they can join."""
        if self._has_begun:
            return
        self._has_begun = True
        for position, (launch, index) in enumerate(self._node.spec.values.get("components", [])):
            number = position + 1
            component = read_component(os.environ, number, self._started)
            process = self._start(component, launch, index)
            self._running[number] = process
            self._node.spared.add(process.pid)

    def follow(self) -> None:
        """Let Slurm have back what an agent left: no batch script ends such a component."""
        now = time.monotonic()
        for number, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                print(f"[agent] component {number} ended with exit code {code}", flush=True)
                del self._running[number]
                self._node.spared.discard(process.pid)
                self._ended[number] = now
        for number, at in list(self._ended.items()):
            release = self._releases.get(number)
            code = None if release is None else release.poll()
            if release is not None and code is not None:
                self._node.spared.discard(release.pid)
            if code == 0:
                del self._ended[number], self._releases[number]
            elif now >= at and (release is None or code is not None):
                self._ended[number] = now + _RELEASE_AGAIN_S
                job = f"{os.environ['SLURM_JOB_ID']}+{number}"
                # As a child: a controller that is away must not hold up the head.
                release = subprocess.Popen(
                    ["scancel", job], stdin=subprocess.DEVNULL, start_new_session=True
                )
                self._releases[number] = release
                self._node.spared.add(release.pid)

    def _start(self, component: Component, launch: str, index: int) -> subprocess.Popen[bytes]:
        paths = self._node.paths
        code = self._node.spec.values["code"]
        script = os.path.join(os.path.dirname(code), "node.sh")
        env: dict[str, Any] = {k: os.environ[k] for k in _BATCH_VARIABLES if k in os.environ}
        env[VARIABLE] = json.dumps(asdict(component))
        argv = agent_argv(
            component.leader_id,
            component.number,
            [script, paths.root, code, launch, str(index)],
            cpus=component.cpus,
            log=paths.log(f"{launch}-{index}"),
            variables=list(env),
        )
        print(f"[agent] component {component.number} (job {component.job_id}) starts", flush=True)
        return subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

"""What the job of `ray-slurm check` finds out on a compute host, as a JSON file in its folder.

``listen`` is the first job: it looks at the environment and at Slurm, and keeps a port open until
it is cancelled. ``connect`` is a second one on another host, which tries that port.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from slurm_provider.agent.files import read_json, write_json
from slurm_provider.agent.network import NetworkError, node_address
from slurm_provider.agent.scratch import ScratchError, make_scratch, remove_scratch
from slurm_provider.agent.tls import TlsError, check_environment

GREETING = b"ray-slurm check\n"
_LISTEN_S = 120.0
_CONNECT_S = 10.0
# A cold environment on a busy shared file system takes minutes to import.
_RAY_TIMEOUT_S = 180.0
_TRIES = 50


def main(folder: str, mode: str) -> int:
    """Write FOLDER/MODE.json; the exit code of the job."""
    spec = read_json(os.path.join(folder, "spec.json"))
    if spec is None:
        print(f"{folder}/spec.json is not visible on {socket.gethostname()}", file=sys.stderr)
        return 1
    answer = os.path.join(folder, f"{mode}.json")
    if mode == "connect":
        write_json(answer, {**_about(), **_connect(read_json(f"{folder}/listen.json"))})
        return 0
    listening = _listen(spec)
    found = {**listening, **_scratch(spec), **_ray(), **_slurm(spec), **_tls(spec)}
    write_json(answer, {**_about(), "nonce": spec["nonce"], **found})
    time.sleep(_LISTEN_S)  # until it is cancelled: others try the port, and srun into this job
    return 0


def greets(connection: Any) -> bool:
    """Whether the other end of a fresh connection is a listening probe."""
    connection.settimeout(_CONNECT_S)
    got = b""
    while len(got) < len(GREETING):
        chunk = connection.recv(len(GREETING) - len(got))
        if not chunk:
            break
        got += chunk
    return got == GREETING


def _about() -> dict[str, Any]:
    return {"host": socket.gethostname(), "job_id": os.environ.get("SLURM_JOB_ID", "")}


def _listen(spec: Mapping[str, Any]) -> dict[str, Any]:
    low, high = spec["ports"]
    try:
        address = node_address(spec["network"], None)
    except NetworkError as error:
        return {"network_problem": str(error)}
    for port in random.sample(range(low, high + 1), min(_TRIES, high - low + 1)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind(("0.0.0.0", port))
            listener.listen()
        except OSError:
            listener.close()
            continue
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
        return {"address": address, "port": port}
    return {"network_problem": f"no free port found between {low} and {high}"}


def _scratch(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Whether there is a place for Ray's session folder, as on a node."""
    try:
        # As long as a node's id, and nobody else's.
        remove_scratch(make_scratch(f"{spec['nonce'][:10]}-0", spec["temp_dir"], os.environ))
    except ScratchError as error:
        return {"temp_problem": str(error)}
    return {"temp_problem": None}


def _greet(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(GREETING)


def _connect(target: Mapping[str, Any] | None) -> dict[str, Any]:
    assert target is not None  # this job was submitted after it had been read
    try:
        with socket.create_connection((target["address"], target["port"]), _CONNECT_S) as sock:
            return {"connected": greets(sock), "problem": "something else answered"}
    except OSError as error:
        return {"connected": False, "problem": str(error)}


def _ray() -> dict[str, Any]:
    found: dict[str, Any] = {"python_version": platform.python_version(), "ray_path": None}
    path = shutil.which("ray")
    if path is None:
        return {**found, "path": os.environ.get("PATH", "")}
    found["ray_path"] = path
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace",
            timeout=_RAY_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return {**found, "ray_problem": str(error)}
    words = done.stdout.split()
    if done.returncode != 0 or not words:
        return {**found, "ray_problem": (done.stderr or done.stdout).strip()[-2000:]}
    return {**found, "ray_version": words[-1]}  # "ray, version 2.60.0"


def _tls(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Whether this host's environment has what certificates need, where they are wanted."""
    ray = shutil.which("ray")
    if not spec["tls"] or ray is None:
        return {}
    try:
        check_environment(ray)
    except TlsError as error:
        return {"tls_problem": str(error)}
    return {"tls_problem": None}


def _slurm(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Whether this host may list and submit jobs, as the autoscaler on a head does."""
    from slurm_provider.slurm import SlurmClient, SlurmError, Submission
    from slurm_provider.transport import LocalTransport

    client = SlurmClient(LocalTransport(), clusters=spec["clusters"])
    submission = Submission(
        script=spec["script"], options=spec["options"], provider_options=spec["provider_options"]
    )
    try:
        client.queue()
        verdict = client.test_only(submission)
    except SlurmError as error:
        return {"submit_problem": str(error)}
    return {"submit_problem": None if verdict.accepted else verdict.words}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

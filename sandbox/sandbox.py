"""The life of a sandbox: up, repair, kill and start hosts, pause, down.

Every step is on record in the state file before the next begins, so `down` knows what to undo
whenever `up` was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone

from . import cgroups, daemons, files, host, network, packages, sshd, users
from .errors import SandboxError
from .layout import DATA_DIR_ENV, Paths, Shape
from .nodes import report_power_loss, wait_until_usable
from .processes import (
    ProcessId,
    descendants,
    is_running,
    is_stopped,
    kill_and_wait,
    send_signal,
    with_environment,
)
from .python_env import existing_environment, own_environment
from .state import State, current_boot_id, load_state

PAUSABLE = ("slurmctld", "slurmdbd")
LONG_AGO = datetime.fromtimestamp(0, timezone.utc)


class Sandbox:
    """A real Slurm on this machine. All methods need root and raise SandboxError, whose message is
    for the user. Changing methods of several processes wait for each other.
    """

    def __init__(self, paths: Paths | None = None, say: Callable[[str], None] = print) -> None:
        self.paths = paths or Paths.from_environment()
        self._say = say

    def up(
        self, shape: Mapping[str, int | str] | None = None, env_prefix: str | None = None
    ) -> None:
        """Boot, or repair what has died, and wait until every host takes jobs.

        `shape` holds the fields of `Shape` the caller insists on; `env_prefix` is the Python
        environment put first on the users' PATH.
        """
        wishes = dict(shape or {})
        began = time.monotonic()
        require_root()
        os.umask(0o022)
        new_shape = Shape(**wishes)  # type: ignore[arg-type]
        if missing := packages.missing_packages():
            packages.install(missing, self._say)
        self._refuse_if_another_is_up()
        self.paths.data.mkdir(parents=True, exist_ok=True)
        with self._lock():
            state = load_state(self.paths.state)
            if state is None or not state.is_complete or not state.is_of_this_boot():
                if state is not None:
                    self._say("removing what an unfinished or earlier sandbox left")
                self._clear(state)
                state = State(new_shape, current_boot_id(), env_prefix=own_environment())
            else:
                _refuse_other_shape(state.shape, wishes)
            self._boot(state, existing_environment(env_prefix) or state.env_prefix)
        self._say(f"up: {state.shape.hosts} hosts ready after {time.monotonic() - began:.1f} s")

    def down(self) -> None:
        """Remove every trace: processes, hosts, network, names, users, the data folder."""
        require_root()
        if not self.paths.data.exists():
            self._clear(None)
            return
        with self._lock():
            self._clear(load_state(self.paths.state))
            self.paths.data.rmdir()

    def state(self) -> State:
        """The sandbox as recorded. Raises SandboxError if there is none."""
        require_root()
        state = load_state(self.paths.state)
        if state is None or not state.is_complete or not state.is_of_this_boot():
            raise SandboxError("The sandbox is not up. Start it with `python3 -m sandbox up`.")
        return state

    def kill(self, name: str) -> None:
        """Power loss of a host: all its processes die at once, its cable is silent."""
        with self._changing() as state:
            self._check_host(name, state)
            host.power_off(name, state.processes.get(f"host-{name}"))
            for process in (f"host-{name}", f"slurmd-{name}"):
                state.processes.pop(process, None)

    def start(self, name: str) -> None:
        """Power a host on (again) and wait until it takes jobs."""
        with self._changing() as state:
            self._check_host(name, state)
            since = datetime.now(timezone.utc)
            if self._ensure_host(state, name):
                wait_until_usable([name], since, self.paths)

    def pause(self, daemon: str) -> None:
        """SIGSTOP: connections to the daemon are accepted by the kernel and never answered."""
        self._signal_daemon(daemon, signal.SIGSTOP)

    def resume(self, daemon: str) -> None:
        self._signal_daemon(daemon, signal.SIGCONT)

    def host_init(self, name: str) -> ProcessId:
        """Process 1 of a running host."""
        state = self.state()
        self._check_host(name, state)
        init = state.processes.get(f"host-{name}")
        if init is None or not is_running(init):
            raise SandboxError(f"Host {name} is off. `python3 -m sandbox start {name}` starts it.")
        return init

    def _boot(self, state: State, env_prefix: str | None) -> None:
        paths, shape = self.paths, state.shape
        files.make_folders(paths)
        state.has_sshd_folder = state.has_sshd_folder or sshd.is_folder_missing()
        state.save(paths.state)
        files.write_slurm_files(shape, paths)
        if shape.proctrack == "cgroup" and not cgroups.can_limit_memory():
            self._say("this machine has no memory cgroups: Slurm will not enforce memory limits")
        network.create_bridge()
        if not state.has_firewall_rule and network.open_firewall():
            state.has_firewall_rule = True
            state.save(paths.state)
        network.write_host_names(shape)
        users.create_users(paths, sshd.prepare_sshd(paths))
        users.check_env_is_usable(env_prefix)
        users.write_profiles(paths, env_prefix)
        self._ensure(state, "munged", daemons.start_munged)
        daemons.create_database_folder(paths)
        self._ensure(state, "mariadbd", daemons.start_mariadbd)
        daemons.create_database(paths)
        self._ensure(state, "slurmdbd", daemons.start_slurmdbd)
        if not state.is_complete:
            with self._step("accounts"):
                daemons.create_accounts(paths)
        self._ensure(state, "slurmctld", daemons.start_slurmctld)
        self._ensure_sshd(state, env_prefix)
        since = datetime.now(timezone.utc)
        started = [name for name in shape.host_names if self._ensure_host(state, name)]
        if started:
            with self._step(f"hosts {', '.join(started)}"):
                wait_until_usable(started, since, paths)
        wait_until_usable(shape.host_names, LONG_AGO, paths)
        state.is_complete = True
        state.save(paths.state)

    def _ensure(self, state: State, name: str, start: Callable[[Paths], ProcessId]) -> None:
        """Start a daemon of the edge node unless it runs."""
        recorded = state.processes.get(name)
        if recorded is not None and is_running(recorded):
            if is_stopped(recorded):
                self._say(f"{name} was paused, resuming it")
                send_signal(recorded, signal.SIGCONT)
            return
        with self._step(f"{name} has died, starting it again" if recorded else name):
            self._record(state, name, start(self.paths))

    def _ensure_sshd(self, state: State, env_prefix: str | None) -> None:
        sshd.write_sshd_config(self.paths, env_prefix)
        before = state.processes.get("sshd")
        self._ensure(state, "sshd", daemons.start_sshd)
        if before == state.processes["sshd"] and env_prefix != state.env_prefix:
            send_signal(before, signal.SIGHUP)  # have it read the new PATH
        state.env_prefix = env_prefix

    def _ensure_host(self, state: State, name: str) -> bool:
        """Start a host, or only its slurmd, unless it runs; whether anything was started."""
        init, slurmd = (state.processes.get(f"{kind}-{name}") for kind in ("host", "slurmd"))
        init_runs = init is not None and is_running(init)
        if init_runs and slurmd is not None and is_running(slurmd):
            return False
        if state.is_complete:
            self._say(f"{name} is off, starting it" if not init_runs else f"slurmd of {name} died")
        if init is None or not init_runs:
            if state.is_complete:
                report_power_loss(name, self.paths)
            init = host.power_on(name, state.shape, self.paths)
            self._record(state, f"host-{name}", init)
        self._record(state, f"slurmd-{name}", host.start_slurmd(name, init, self.paths))
        return True

    def _clear(self, state: State | None) -> None:
        """Undo everything but the data folder itself; each part is harmless if nothing is there."""
        self._refuse_if_another_is_up()
        # The mark finds what an interrupted `up` had started and not yet recorded.
        doomed = with_environment(*daemons.process_mark(self.paths))
        if state is not None and state.is_of_this_boot():
            doomed += state.processes.values()
            if state.has_firewall_rule:
                network.close_firewall()
        sessions = [below for process in doomed for below in descendants(process)]
        kill_and_wait([*doomed, *sessions])
        users.remove_users()
        network.remove_cables()
        network.remove_bridge()
        network.remove_host_names()
        if state is not None:
            cgroups.remove_leftovers(state.shape.host_names)
            if state.has_sshd_folder:
                sshd.remove_folder()
        self._empty_data_folder()

    def _refuse_if_another_is_up(self) -> None:
        """Users, bridge and addresses exist once per machine: they may be another sandbox's."""
        folder = users.data_folder_of_users()
        if folder is None or folder == self.paths.data:
            return
        other = load_state(Paths(folder).state)
        if other is not None and other.is_of_this_boot():
            raise SandboxError(
                f"Another sandbox, with {DATA_DIR_ENV}={folder}, is up, and a machine holds one. "
                f"Take it down first: `{DATA_DIR_ENV}={folder} python3 -m sandbox down`."
            )

    def _empty_data_folder(self) -> None:
        # The state file goes last: until then another `down` can finish an interrupted one.
        entries = list(self.paths.data.iterdir()) if self.paths.data.exists() else []
        try:
            for entry in sorted(entries, key=lambda entry: entry == self.paths.state):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except OSError as problem:
            raise SandboxError(
                f"{problem.filename} cannot be removed ({problem.strerror}). Is a process still "
                "writing there? End it and run `python3 -m sandbox down` again."
            ) from None

    def _record(self, state: State, name: str, process: ProcessId) -> None:
        state.processes[name] = process
        state.save(self.paths.state)

    def _signal_daemon(self, daemon: str, number: signal.Signals) -> None:
        if daemon not in PAUSABLE:
            raise SandboxError(f"Only {' and '.join(PAUSABLE)} can be paused, not {daemon!r}.")
        process = self.state().processes[daemon]
        if not send_signal(process, number):
            raise SandboxError(f"{daemon} has died. `python3 -m sandbox up` starts it again.")

    def _check_host(self, name: str, state: State) -> None:
        if name not in state.shape.host_names:
            raise SandboxError(
                f"There is no host {name!r}. Hosts: {', '.join(state.shape.host_names)}."
            )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        self.state()
        with self._lock():
            state = self.state()
            yield state
            state.save(self.paths.state)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One changing command at a time; the data folder itself is what is locked."""
        while True:
            handle = os.open(self.paths.data, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                # A `down` we waited for has removed the folder: then wait for nothing any more.
                if not self.paths.data.exists():
                    self.paths.data.mkdir()
                if os.stat(self.paths.data).st_ino == os.fstat(handle).st_ino:
                    yield
                    return
            finally:
                os.close(handle)

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._say(f"{what}: {time.monotonic() - began:.1f} s")


def require_root() -> None:
    """Raises SandboxError for anyone but root, saying how to become it."""
    if os.geteuid() != 0:
        raise SandboxError(
            "The sandbox needs root: it makes network namespaces, users and daemons. "
            "Run `sudo python3 -m sandbox ...` from the same folder."
        )


def _refuse_other_shape(shape: Shape, wishes: Mapping[str, int | str]) -> None:
    for name, value in wishes.items():
        if getattr(shape, name) != value:
            option = "--" + name.replace("_", "-")
            raise SandboxError(
                f"A sandbox with {option} {getattr(shape, name)} is up; for {option} {value} "
                "take it down first: `python3 -m sandbox down`."
            )

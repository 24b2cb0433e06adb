"""Run a command as on the edge node or on a compute host, as any user, in a clean environment.

On the edge node this process becomes the command. On a host it stays as a parent outside the
host's PID namespace, hands signals on and returns the command's exit code.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from .errors import SandboxError
from .layout import Paths
from .namespaces import die_with_parent, enter_edge, enter_host
from .processes import ProcessId
from .users import login_path

_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ROOTS_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def run_on_edge(argv: list[str], user: str | None, env: Mapping[str, str]) -> NoReturn:
    """Become the command. Raises SandboxError if it cannot be started."""
    account = _account(user)
    enter_edge()
    _become(account, user is not None)
    _execute(argv, env)


def run_on_host(argv: list[str], user: str | None, env: Mapping[str, str], init: ProcessId) -> int:
    """Run the command inside the host and wait; returns its exit code, 128 + N for signal N."""
    account = _account(user)
    # Blocked before the fork, so that none is lost between it and the wait.
    watched = {*_FORWARDED, signal.SIGCHLD}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    directory = Path.cwd()
    enter_host(init.pid)
    child = os.fork()
    if child == 0:
        _child(argv, env, account, user is not None, directory, previous)
    return _wait_and_forward(child, watched)


def user_env(user: str | None, paths: Paths, env_prefix: str | None) -> dict[str, str]:
    """What a login would give this user (default: root). Raises SandboxError for an unknown one."""
    account = _account(user)
    path = login_path(env_prefix)
    env = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        "PATH": f"{path}:{_ROOTS_PATH}" if account.pw_uid == 0 else path,
        "LANG": "C.UTF-8",
        "SLURM_CONF": str(paths.slurm_conf),
    }
    if term := os.environ.get("TERM"):
        env["TERM"] = term
    return env


def _account(user: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.getuid())
    except KeyError:
        raise SandboxError(f"There is no user {user!r} on this machine.") from None


def _child(
    argv: list[str],
    env: Mapping[str, str],
    account: pwd.struct_passwd,
    starts_at_home: bool,
    directory: Path,
    signal_mask: set[int | signal.Signals],
) -> NoReturn:
    """The forked child: never returns into the caller's code."""
    try:
        # The host's mounts came with enter_host; the old directory may not exist here.
        with contextlib.suppress(OSError):
            os.chdir(directory)
        _become(account, starts_at_home or not _is_here(directory))
        die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
        _execute(argv, env)
    except SandboxError as problem:
        print(problem, file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _is_here(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return Path.cwd() == directory
    return False


def _become(account: pwd.struct_passwd, starts_at_home: bool) -> None:
    if account.pw_uid != os.getuid():
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if starts_at_home:
        os.chdir(account.pw_dir)


def _execute(argv: list[str], env: Mapping[str, str]) -> NoReturn:
    # Python ignores SIGPIPE, and the command would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError:
        raise SandboxError(f"{argv[0]}: no such program on PATH={env['PATH']}") from None
    except OSError as problem:
        raise SandboxError(f"{argv[0]}: {problem.strerror}") from None


def _wait_and_forward(child: int, watched: set[signal.Signals]) -> int:
    while True:
        arrived = signal.sigwaitinfo(watched)
        if arrived.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif arrived.si_code <= 0:
            # From a program. Ctrl-C at a terminal (a positive code) has reached the child itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, arrived.si_signo)

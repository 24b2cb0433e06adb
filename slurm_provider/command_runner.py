"""Ray's CommandRunnerInterface (ray/autoscaler/command_runner.py) over Slurm, translated.

Ray's commands assume a machine of one's own: fixed paths in the home folder and in /tmp/ray, a
``ray stop`` for the whole host, ``sudo shutdown``. What each means on a shared Slurm host is here.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from ray.autoscaler._private.cli_logger import cli_logger
from ray.autoscaler.command_runner import CommandRunnerInterface
from ray.autoscaler.tags import STATUS_UPDATE_FAILED, TAG_RAY_NODE_STATUS

from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.command_end import UNFINISHED_CODE, Unfinished
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.excludes import Excludes
from slurm_provider.head_update import HeadUpdate, what_stays
from slurm_provider.head_wait import StatusLine
from slurm_provider.head_watch import HeadWatch
from slurm_provider.job_submit import job_submit_line
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

_BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"
# What `ray exec --stop` appends (ray/autoscaler/_private/commands.py, exec_cluster).
_STOP_SUFFIX = (
    "; ray stop; ray teardown ~/ray_bootstrap_config.yaml --yes --workers-only; "
    "sudo shutdown -h now"
)
_DEFAULT_PORTS = {8265: "dashboard_port", 10001: "client_port"}
_EXPECTED = (ConfigError, ClusterError, SlurmError, TransportError)
_READY_TIMEOUT_S = 30.0
_LEAVE_TIMEOUT_S = 10.0
_ASK_AGAIN_S = 5.0


class CommandFailed(click.ClickException):
    """The user's command ended with an exit code; Ray's command ends with the same."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the command ended with exit code {code}")
        self.exit_code = code  # type: ignore[misc]  # click types it as a class variable


class CommandUnfinished(click.ClickException):
    """The user's command is not known to have run to its own end."""

    exit_code = UNFINISHED_CODE


class SlurmCommandRunner(CommandRunnerInterface):  # type: ignore[misc]  # Ray ships no types for it
    """Commands and files for one node."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster = cluster
        self._node = NodeAccess(cluster, node_id)
        self._update: HeadUpdate | None = None  # while `ray up` sets the head up

    def run(
        self,
        cmd: str | None = None,
        timeout: int = 120,
        exit_on_fail: bool = False,
        port_forward: Sequence[tuple[int, int]] | tuple[int, int] | None = None,
        with_output: bool = False,
        environment_variables: Mapping[str, object] | None = None,
        run_env: str = "auto",
        ssh_options_override_ssh_key: str = "",
        shutdown_after_run: bool = False,
    ) -> str:
        if _in_updater_thread():
            return self._run_in_updater(cmd or "", environment_variables)
        try:
            return self._run_for_user(cmd, port_forward, with_output, exit_on_fail)
        except _EXPECTED as error:
            raise _for_click(error) from None

    def run_rsync_up(
        self, source: str, target: str, options: Mapping[str, Any] | None = None
    ) -> None:
        with _Plainly(self):
            if target == _BOOTSTRAP_CONFIG:
                with open(source, "rb") as file:
                    self._node.write_bootstrap_config(file.read())
                return
            excludes = Excludes.of(options or {})
            if (options or {}).get("docker_mount_if_possible"):
                self._node.place_mount(source, target, excludes)
            else:
                self._node.upload(source, self._submit_path(target), excludes)

    def run_rsync_down(
        self, source: str, target: str, options: Mapping[str, Any] | None = None
    ) -> None:
        with _Plainly(self):
            self._node.download(source.rstrip("/") or "/", os.path.expanduser(target))

    def remote_shell_command_str(self) -> str:
        return "ray attach (there is no SSH to compute nodes)"

    def run_init(
        self, *, as_head: bool, file_mounts: Mapping[str, str], sync_run_yet: bool
    ) -> bool | None:
        return None  # for Docker only

    # -- `ray up` --------------------------------------------------------------------------

    def _run_in_updater(self, cmd: str, env: Mapping[str, object] | None) -> str:
        if self._update is None:
            self._update = HeadUpdate(self._cluster, self._node.node_id)
        with _Plainly(self):
            if cmd == "uptime":
                self._wait()
            elif env is not None:
                self._node.start_ray(cmd, _start_env(env))
            elif cmd in self._rays_own_mkdirs():
                pass  # uploads make their folders; this would make them under the wrong home
            else:
                self._update.run(self._node, cmd)
        return ""

    def _rays_own_mkdirs(self) -> set[str]:
        mounts = self._cluster.section.get("_nodes", {}).get("file_mounts", [])
        return rays_own_mkdirs([_BOOTSTRAP_CONFIG, *mounts])

    def _wait(self) -> None:
        shown = StatusLine()
        try:
            while not self._is_ready(shown):
                time.sleep(_ASK_AGAIN_S)
        finally:
            shown.end()

    def _is_ready(self, shown: StatusLine) -> bool:
        """True after a wait of any length; False where Slurm or the way to it gives no answer now,
        which must not end a wait of days."""
        try:
            self._node.wait_ready(shown.show, lambda: True)
        except (SlurmError, TransportError) as error:
            if not error.transient:
                raise
            shown.show(f"waiting on, though there is no answer now: {error}")
            return False
        return True

    def give_up(self, message: str) -> None:
        """End the updater with one clear message; an exception would print a traceback."""
        self._cluster.store.write_tags(
            self._node.node_id,
            {
                **self._cluster.store.tags(self._node.node_id),
                TAG_RAY_NODE_STATUS: STATUS_UPDATE_FAILED,
            },
        )
        cli_logger.error("{}", "\n".join([message, *self._what_stays()]))
        raise SystemExit(1)

    def _what_stays(self) -> list[str]:
        if (self._cluster.store.report(self._node.node_id) or {}).get("state") == "ended":
            return []
        try:
            self._cluster.fleet.refresh()
        except (SlurmError, TransportError):
            pass  # unknown is not gone
        return what_stays(self._cluster, self._node.node_id)

    # -- `ray exec`, `attach`, `submit`, `dashboard`, `monitor` ------------------------------

    def _run_for_user(
        self, cmd: str | None, port_forward: Any, with_output: bool, exit_on_fail: bool
    ) -> str:
        tunnels = [self._tunnel(local, remote) for local, remote in _pairs(port_forward)]
        try:
            if cmd is None:
                self._hold_open(tunnels)
                return ""
            if cmd == "ray stop" and _click_command() == "down":
                # The jobs are to end anyway. With the head's Ray stopped first, the workers' would
                # try to reach it until they are killed.
                self._say_ending()
                self._cluster.end_nodes()
                return ""
            stop = cmd.endswith(_STOP_SUFFIX)
            cmd = self._own_paths(cmd.removesuffix(_STOP_SUFFIX))
            try:
                code, output = self._run_on_node(cmd, with_output)
            except Unfinished as error:
                if cmd == "ray stop" and self._node.has_left(_LEAVE_TIMEOUT_S):
                    return ""
                self._after_unfinished(error, stop)
                raise
            self._remove_submitted()
            if stop:
                self._say_ending()
                self._cluster.take_down()
            if code != 0 and not (cmd == "ray stop" and self._node.has_left(_LEAVE_TIMEOUT_S)):
                raise CommandFailed(code)
            return output
        finally:
            for tunnel in tunnels:
                tunnel.close()

    def _run_on_node(self, cmd: str, with_output: bool) -> tuple[int, str]:
        if with_output:
            return self._node.capture(cmd, timeout_s=24 * 3600)
        return self._node.call(cmd, tty=sys.stdin.isatty()), ""

    def _after_unfinished(self, error: Unfinished, stop: bool) -> None:
        """Tidy up as far as that works; the error itself is told in any case."""
        try:
            self._remove_submitted()
            if stop and error.node_has_ended:
                self._say_ending()
                self._cluster.take_down()
        except (*_EXPECTED, OSError) as problem:
            cli_logger.warning("{}", problem)
        if stop and not error.node_has_ended:
            cli_logger.warning("The cluster stays, as the command may go on: `ray down` ends it.")

    def _own_paths(self, cmd: str) -> str:
        if _click_command() == "submit":
            params = click.get_current_context().params
            path = self._submit_path(os.path.basename(params["script"]))
            return submit_command(cmd, params, path)
        if "/tmp/ray/" in cmd:
            cmd = cmd.replace("/tmp/ray/", f"{self._node.report()['temp_dir']}/")
        bootstrap = f"{self._cluster.store.paths.node(self._node.node_id)}/bootstrap.json"
        return cmd.replace(_BOOTSTRAP_CONFIG, bootstrap)

    def _submit_path(self, target: str) -> str:
        """Where `ray submit` puts its script: not over a file of that name in the home folder."""
        if _click_command() != "submit":
            return target
        return f"{self._node.submit_folder(str(os.getpid()))}/{os.path.basename(target)}"

    def _remove_submitted(self) -> None:
        if _click_command() == "submit":
            self._node.remove(self._node.submit_folder(str(os.getpid())))

    def _tunnel(self, local_port: int, remote_port: int) -> Any:
        head = self._cluster.store.head()
        if head is not None and remote_port in _DEFAULT_PORTS:
            # Ray's default ports stand for this cluster's own.
            remote_port = int(head[_DEFAULT_PORTS[remote_port]])
        tunnel = self._node.tunnel(remote_port, local_port)
        tunnel.wait_ready(_READY_TIMEOUT_S)
        cli_logger.print("Forwarding 127.0.0.1:{} to the head's port {}", tunnel.port, remote_port)
        sys.stdout.flush()  # programs wait for this line
        return tunnel

    def _hold_open(self, tunnels: Sequence[Any]) -> None:
        store = self._cluster.store
        if store.token() is not None:
            cli_logger.print("The dashboard asks for the token in {}", store.paths.token)
        if _click_command() == "dashboard":
            line = job_submit_line(self._cluster, tunnels[0].port)
            cli_logger.print("To submit jobs meanwhile: {}", line)
        cli_logger.print("Press Ctrl-C to close.")
        sys.stdout.flush()
        watch = HeadWatch(store, store.head())
        try:
            while all(tunnel.alive for tunnel in tunnels):
                if watch.has_moved():
                    raise ClusterError(
                        "Ray was started again on the head and listens on other ports: run this "
                        "command again"
                    )
                time.sleep(0.5)
        except KeyboardInterrupt:
            return
        raise ClusterError("the connection to the head ended")

    def _say_ending(self) -> None:
        cli_logger.print("Requesting {} nodes to shut down.", len(self._cluster.fleet.nodes()))


def rays_own_mkdirs(targets: Iterable[str]) -> set[str]:
    """What Ray runs before it uploads these mounts, files or folders, with nothing quoted
    (ray/autoscaler/_private/updater.py)."""
    paths = [path for target in targets for path in (target, f"{target}/")]
    return {f"mkdir -p {os.path.dirname(path)}" for path in paths}


def submit_command(cmd: str, params: Mapping[str, Any], path: str) -> str:
    """The command of `ray submit` with the script at ``path`` and its arguments as the user typed
    them: Ray joins the words with blanks (ray/scripts/scripts.py), for a shell to part them again.

    ``params`` are the command line's. The text of the deprecated ``--args`` stays a shell's.
    """
    words = list(params.get("script_args") or ())
    plain = " ".join(["python", f"~/{os.path.basename(params['script'])}", *words])
    if not cmd.startswith(plain):
        raise ClusterError(f"`ray submit` of this version of Ray is not understood: {cmd}")
    return shlex.join(["python", path, *words]) + cmd[len(plain) :]


class _Plainly:
    """Our errors as one message: by ending the updater's thread, or as click prints it."""

    def __init__(self, runner: SlurmCommandRunner) -> None:
        self._runner = runner

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, _EXPECTED):
            if _in_updater_thread():
                self._runner.give_up(str(error))
            raise _for_click(error) from None


def _for_click(error: BaseException) -> click.ClickException:
    if isinstance(error, Unfinished):
        return CommandUnfinished(str(error))
    return click.ClickException(str(error))


def _start_env(env: Mapping[str, object]) -> dict[str, str]:
    # RAY_OVERRIDE_RESOURCES would replace what Slurm granted, and leak through the autoscaler
    # into every job it submits.
    return {k: str(v) for k, v in env.items() if not k.startswith("RAY_OVERRIDE_")}


def _in_updater_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


def _click_command() -> str | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.info_name


def _pairs(port_forward: Any) -> list[tuple[int, int]]:
    if not port_forward:
        return []
    return list(port_forward) if isinstance(port_forward, list) else [port_forward]

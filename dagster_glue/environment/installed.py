"""Environments that are on the cluster already."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from dagster_glue.environment.base import EnvironmentFailed, Log
from slurm_provider.transport import Transport


@dataclass(frozen=True)
class LoginShell:
    """What a login shell of the user has on PATH."""

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """See :class:`.base.Environment`."""
        log(f"No environment is configured: jobs use what a login shell on {transport.label} has")
        return {}


@dataclass(frozen=True)
class PreDeployed:
    """A folder that every host sees: one with ``activate.sh``, or a prefix with ``bin/python3``.

    ``activate.sh`` wins, as what `pixi-unpack` leaves has both it and ``env/``.
    """

    path: str
    """Absolute, or beginning with ``~/``."""

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """See :class:`.base.Environment`."""
        path = self._absolute(transport)
        where = f"pre_deployed_env_path {path} on {transport.label}"
        try:
            names = transport.list_dir(path)
        except (FileNotFoundError, NotADirectoryError):
            raise EnvironmentFailed(
                f"{where} is not a folder; install the environment there or correct the path"
            ) from None
        except PermissionError:
            raise EnvironmentFailed(f"{where} may not be read; ask its owner for access") from None
        if "activate.sh" in names:
            return {"activate": f". {shlex.quote(f'{path}/activate.sh')}"}
        for prefix, subfolders in ((path, names), (f"{path}/env", ["bin"])):
            if "bin" in subfolders and _has_python(transport, f"{prefix}/bin"):
                return {"prefix": prefix}
        raise EnvironmentFailed(
            f"{where} has neither activate.sh nor bin/python3 (it has: "
            f"{', '.join(names[:10]) or 'nothing'}); name a venv, a conda or pixi prefix, or a "
            "folder with activate.sh"
        )

    def _absolute(self, transport: Transport) -> str:
        path = self.path.rstrip("/")
        if path == "~" or path.startswith("~/"):
            return transport.home() + path[1:]
        if not path.startswith("/"):
            raise EnvironmentFailed(
                f"pre_deployed_env_path {self.path!r} must be absolute or start with ~/ : it is "
                "used on every host of the cluster"
            )
        return path


def _has_python(transport: Transport, folder: str) -> bool:
    try:
        return "python3" in transport.list_dir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False

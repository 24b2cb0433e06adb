"""How to reach the edge node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
from pydantic import Field

from dagster_glue.strict import StrictResource, resolved
from slurm_provider.errors import ConfigError
from slurm_provider.transport import SshSettings

if TYPE_CHECKING:
    from slurm_provider.transport import SshTransport

_BY_DAGSTER: ContextVar[bool] = ContextVar("resolved_by_dagster", default=False)


class SSHConnectionResource(StrictResource):
    """An SSH login at the edge node; all of a process share one connection, opened when needed
    and again after a drop.

    Tried in this order: ``key_path``, the agent, keys of ``~/.ssh/config``; keyboard-interactive;
    the password.
    """

    host: str = Field(description="Edge node: a name or address, or a Host of ~/.ssh/config.")
    user: str | None = Field(
        default=None, description="Login name; default: ~/.ssh/config, then yours."
    )
    port: int | None = Field(default=None, description="SSH port; default: ~/.ssh/config, then 22.")
    key_path: str | None = Field(
        default=None, description="Private key; default: agent, ~/.ssh/config."
    )
    password: str | None = Field(
        default=None,
        repr=False,
        description='Only as EnvVar("NAME"): for the login and for an encrypted key_path. Never '
        "sent to jump hosts.",
        json_schema_extra={"dagster__is_secret": True},
    )
    jump_host: str | None = Field(
        default=None,
        description="`user@host:port` on the way; several, in order, separated by commas.",
    )
    config_path: str = Field(
        default="~/.ssh/config", description="SSH configuration to honour; empty for none."
    )
    known_hosts: str | None = Field(default=None, description="File of host keys; default: yours.")
    host_key_policy: str = Field(
        default="strict",
        description="Unknown host keys: `strict` refuses, `accept-new` remembers, `off`.",
    )
    connect_timeout_s: float = Field(
        default=15.0, description="For connecting and for each login try."
    )
    keepalive_s: float = Field(
        default=30.0, description="A silent connection gets a packet this often."
    )

    # Dagster makes a resource anew from its fields for each run, so these are kept in the class.
    _otp_callback: ClassVar[Callable[[str], str] | None] = None
    _missing_host: ClassVar[str | None] = None

    def __init__(self, **values: Any) -> None:
        password = values.get("password")
        is_plain = password is not None and not isinstance(password, dg.EnvVar)
        if is_plain and not _BY_DAGSTER.get():
            raise ConfigError(
                "SSHConnectionResource.password: a password does not belong into code; put it into "
                'an environment variable and give password=EnvVar("ITS_NAME")'
            )
        super().__init__(**values)

    @classmethod
    def from_env(cls, prefix: str = "SLURM_EDGE_NODE_") -> SSHConnectionResource:
        """From ``<prefix>HOST`` and, where set, ``USER``, ``PORT``, ``KEY_PATH``, ``PASSWORD``,
        ``JUMP_HOST`` and the other fields in capitals.

        The prefix may be given without its last underscore. The password stays in its variable.
        A missing host is an error once a connection is wanted, so that mode ``local`` and checks of
        a project do without. Raises ConfigError naming the variable that cannot be.
        """
        prefix = prefix.rstrip("_") + "_"
        values = _from_environ(prefix, os.environ)
        if "host" in values:
            return cls(**values)
        return cls._with_members(_missing_host=prefix)(host="", **values)

    def with_otp_callback(self, callback: Callable[[str], str]) -> SSHConnectionResource:
        """The same with ``callback`` to answer the server's questions (one-time passwords).

        It gets ``user@host: <the server's prompt>``, in another thread, for every connection.
        """
        answering = self._with_members(_otp_callback=staticmethod(callback))
        return answering(**self._get_non_default_public_field_values())

    def settings(self) -> SshSettings:
        """As the transport takes them. Raises ConfigError."""
        values = resolved(self)
        prefix = type(self)._missing_host
        if prefix is not None:
            raise ConfigError(
                f"the environment variable {prefix}HOST is not set: give it the edge node's name "
                f"(also read: {prefix}USER, {prefix}PORT, {prefix}KEY_PATH, {prefix}PASSWORD, "
                f"{prefix}JUMP_HOST)"
            )
        try:
            return SshSettings(
                host=values.host,
                user=values.user,
                port=values.port,
                key_path=values.key_path,
                password=values.password,
                jump_host=values.jump_host,
                config_path=values.config_path or None,
                known_hosts=values.known_hosts,
                host_key_policy=values.host_key_policy,  # type: ignore[arg-type]  # checked there
                connect_timeout_s=values.connect_timeout_s,
                keepalive_s=values.keepalive_s,
                otp_callback=type(self)._otp_callback,
            )
        except ValueError as error:
            raise ConfigError(f"SSHConnectionResource: {error}") from None

    def transport(self) -> SshTransport:
        """Commands and files on the edge node; connects on first use, shared by equal settings.

        Raises ConfigError.
        """
        from slurm_provider.transport import SshTransport

        return SshTransport(self.settings())

    def cluster_section(self) -> dict[str, Any]:
        """What of this a cluster YAML's ``provider.ssh`` can hold: all but the secrets."""
        settings = self.settings()
        section = {
            "host": settings.host,
            "user": settings.user,
            "port": settings.port,
            "key_path": settings.key_path,
            "jump_host": settings.jump_host,
            "known_hosts": settings.known_hosts,
            "host_key_policy": settings.host_key_policy,
        }
        return {key: value for key, value in section.items() if value is not None}

    @classmethod
    def _with_members(cls, **members: Any) -> type[SSHConnectionResource]:
        """This class under the same name, with other class members."""
        names = {"__doc__": cls.__doc__, "__module__": cls.__module__, **members}
        return type(cls.__name__, (cls,), names)

    def _with_updated_values(self, values: Mapping[str, Any] | None) -> Any:
        # Dagster comes here to replace EnvVars by their values.
        with _resolving():
            return super()._with_updated_values(values)


@contextmanager
def _resolving() -> Iterator[None]:
    token = _BY_DAGSTER.set(True)
    try:
        yield
    finally:
        _BY_DAGSTER.reset(token)


def _from_environ(prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in SSHConnectionResource.model_fields.items():
        variable = prefix + name.upper()
        text = environ.get(variable, "")
        if not text:
            continue
        if name == "password":
            values[name] = dg.EnvVar(variable)
        elif field.annotation in (float, int | None):
            values[name] = _number(variable, text, whole=field.annotation is not float)
        else:
            values[name] = text
    return values


def _number(variable: str, text: str, *, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise ConfigError(f"{variable}: {text!r} is not a number") from None

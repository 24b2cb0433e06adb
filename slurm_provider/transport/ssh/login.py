"""Log in: keys, then what the server asks, then a password, in the order the server wants.

Sites that want a second factor answer the first with "partial success" and name what is missing;
then the next round begins with that.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import paramiko

from slurm_provider.transport.base import AuthenticationFailed
from slurm_provider.transport.ssh.endpoint import Endpoint
from slurm_provider.transport.ssh_settings import SshSettings

INTERACTIVE_TIMEOUT_S = 120.0  # a person types; sshd's own LoginGraceTime is 120 s
_KEY_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
_PREFERENCE = ("publickey", "keyboard-interactive", "password")


def log_in(connection: paramiko.Transport, endpoint: Endpoint, settings: SshSettings) -> None:
    """Authenticate a connection whose host key has been verified.

    Raises AuthenticationFailed naming what was tried, what the server takes and what to do.
    """
    _Login(connection, endpoint, settings).run()


class _Login:
    def __init__(
        self, connection: paramiko.Transport, endpoint: Endpoint, settings: SshSettings
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._settings = settings
        self._tried: list[str] = []
        self._notes: list[str] = []

    def run(self) -> None:
        accepted = self._accepted_methods()
        spent: set[str] = set()
        while not self._connection.is_authenticated():
            method = next((m for m in _PREFERENCE if m in accepted and m not in spent), None)
            if method is None:
                raise self._refused(accepted)
            spent.add(method)
            accepted = {
                "publickey": self._with_keys,
                "keyboard-interactive": self._with_answers,
                "password": self._with_password,
            }[method]() or accepted

    def _accepted_methods(self) -> list[str]:
        try:
            self._connection.auth_none(self._endpoint.user)
        except paramiko.BadAuthenticationType as error:
            return list(error.allowed_types)
        except paramiko.SSHException as error:
            raise AuthenticationFailed(
                f"{self._endpoint.label} ended the login at once ({error}): the account may be "
                "locked or this address barred; ask the site's administrators",
                transient=True,
            ) from error
        return []

    def _with_keys(self) -> list[str]:
        for name, key in self._keys():
            self._tried.append(name)
            try:
                return list(self._connection.auth_publickey(self._endpoint.user, key))
            except paramiko.SSHException as error:
                if not self._connection.is_active():
                    raise AuthenticationFailed(
                        f"{self._endpoint.label} ended the connection after "
                        f"{len(self._tried)} keys ({', '.join(self._tried)}): name the right one "
                        "as key_path, or set IdentitiesOnly in the SSH configuration"
                    ) from error
        return []

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        """The keys to offer: the named one, configured ones, the agent's, the default ones."""
        agent = _agent_keys()
        named = self._settings.key_path
        for path in ([os.path.expanduser(named)] if named else []) + list(self._endpoint.key_files):
            key = self._load(path, agent, is_required=path == os.path.expanduser(named or ""))
            if key is not None:
                agent = [held for held in agent if held.asbytes() != key.asbytes()]
                yield path, key
        if not self._endpoint.only_these_keys:
            for held in agent:
                yield f"agent key {held.comment}".rstrip(), held

    def _load(
        self, path: str, agent: list[paramiko.AgentKey], *, is_required: bool
    ) -> paramiko.PKey | None:
        public = _public_blob(path)
        for held in agent:
            if public is not None and held.asbytes() == public:
                return held
        password = self._settings.password if is_required else None
        try:
            return load_key(path, password)
        except KeyFileError as error:
            if is_required:
                raise AuthenticationFailed(f"{self._endpoint.label}: {error}") from None
            if not isinstance(error.__cause__, FileNotFoundError):
                self._notes.append(str(error))
            return None

    def _with_answers(self) -> list[str]:
        settings = self._settings
        if settings.otp_callback is None and settings.password is None:
            return []
        self._tried.append("keyboard-interactive")
        failures: list[BaseException] = []
        unused_password = [] if settings.password is None else [settings.password]

        def answer(_title: str, _text: str, prompts: list[tuple[str, bool]]) -> list[str]:
            # Runs in paramiko's thread: an exception there would tear the connection down.
            answers = []
            for prompt, _echo in prompts:
                if unused_password and "password" in prompt.lower():
                    answers.append(unused_password.pop())
                elif settings.otp_callback is not None:
                    try:
                        question = f"{self._endpoint.label}: {prompt.strip()}"
                        answers.append(settings.otp_callback(question))
                    except BaseException as failure:
                        failures.append(failure)
                        return []
                else:
                    self._notes.append(f"the server asks {prompt.strip()!r}")
                    return []
            return answers

        self._connection.auth_timeout = INTERACTIVE_TIMEOUT_S
        try:
            return list(self._connection.auth_interactive(self._endpoint.user, answer))
        except paramiko.SSHException as error:
            if failures:
                raise AuthenticationFailed(
                    f"{self._endpoint.label}: no answer to the server's question ({failures[0]!r})"
                ) from failures[0]
            self._raise_if_over(error)
            return []
        finally:
            self._connection.auth_timeout = settings.connect_timeout_s

    def _with_password(self) -> list[str]:
        if self._settings.password is None:
            return []
        self._tried.append("password")
        try:
            return list(
                self._connection.auth_password(
                    self._endpoint.user, self._settings.password, fallback=False
                )
            )
        except paramiko.SSHException as error:
            self._raise_if_over(error)
            return []

    def _raise_if_over(self, error: Exception) -> None:
        if not self._connection.is_active():
            raise AuthenticationFailed(
                f"{self._endpoint.label} ended the login ({error})", transient=True
            ) from error

    def _refused(self, accepted: list[str]) -> AuthenticationFailed:
        tried = ", ".join(self._tried) or "nothing, for want of a key or password"
        notes = f" ({'; '.join(self._notes)})" if self._notes else ""
        steps = {
            "publickey": "put your public key into authorized_keys there and name the private "
            "one as key_path or in ssh-agent",
            "keyboard-interactive": "answer the server's questions (otp_callback, password)",
            "password": "give a password",
        }
        todo = "; or ".join(steps[method] for method in _PREFERENCE if method in accepted)
        return AuthenticationFailed(
            f"{self._endpoint.label} refused the login. Tried: {tried}{notes}. It accepts: "
            f"{', '.join(accepted) or 'nothing more'}. "
            f"Next: {todo or 'ask the administrators'}"
        )


class KeyFileError(Exception):
    """A private key file that cannot be used; the message says why."""


def load_key(path: str, password: str | None) -> paramiko.PKey:
    """Read a private key, and the certificate beside it (``…-cert.pub``) if there is one.

    Raises KeyFileError; its cause tells a missing file from others.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise KeyFileError(
            f"the private key {path} cannot be read ({error.strerror}): check path and permissions"
        ) from error
    is_encrypted = False
    for key_class in _KEY_CLASSES:
        try:
            key = key_class.from_private_key_file(path, password)
        except paramiko.PasswordRequiredException:
            is_encrypted = True
        except (paramiko.SSHException, ValueError, IndexError):
            continue  # of another type, or a wrong passphrase
        else:
            certificate = f"{path}-cert.pub"
            if os.path.exists(certificate):
                key.load_certificate(certificate)
            return key
    if is_encrypted:
        raise KeyFileError(
            f"the private key {path} is encrypted: unlock it by ssh-add, or give its passphrase"
        )
    wrong = " with the passphrase given" if password else ""
    raise KeyFileError(
        f"the private key {path} cannot be loaded{wrong}: it has to be an OpenSSH or PEM key of "
        "type ed25519, ecdsa or rsa"
    )


def _agent_keys() -> list[paramiko.AgentKey]:
    try:
        return list(paramiko.Agent().get_keys())
    except (paramiko.SSHException, OSError):
        return []  # an agent that does not answer is as good as none


def _public_blob(path: str) -> bytes | None:
    """The public key beside a private one, or the file itself when it is a public key."""
    try:
        with open(path if path.endswith(".pub") else f"{path}.pub", encoding="utf-8") as file:
            return base64.b64decode(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None

"""Is this server the host it should be? The rules of OpenSSH's known_hosts files.

paramiko's own reader knows neither host patterns (``*.site.edu``) nor ``@revoked``, both common in
the system-wide files of clusters. Host certificates (``@cert-authority``) are not supported by
paramiko; such lines are skipped, so a host known only by them counts as unknown.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from slurm_provider.transport.base import HostKeyRejected
from slurm_provider.transport.ssh_settings import HostKeyPolicy


@dataclass(frozen=True)
class HostKey:
    """A public key: its type, such as ``ssh-ed25519``, and its base64 text."""

    kind: str
    base64: str

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


@dataclass(frozen=True)
class KnownHost:
    """One line of a known_hosts file, and where it stands."""

    patterns: tuple[str, ...]
    key: HostKey
    is_revoked: bool
    place: str

    def matches(self, name: str) -> bool:
        """Whether the line is about ``name`` (``host`` or ``[host]:port``)."""
        matched = False
        for pattern in self.patterns:
            if pattern.startswith("!"):
                if fnmatch.fnmatchcase(name, _escape_brackets(pattern[1:])):
                    return False
            elif pattern.startswith("|1|"):
                matched = matched or _hash_matches(pattern, name)
            else:
                matched = matched or fnmatch.fnmatchcase(name, _escape_brackets(pattern))
        return matched


class Verdict(Enum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


def parse(text: str, path: str) -> list[KnownHost]:
    """The lines of a known_hosts file that can be understood; others are skipped."""
    known = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        patterns = tuple(fields[0].lower().split(",") if fields[0][0] != "|" else [fields[0]])
        key = HostKey(fields[1], fields[2])
        known.append(KnownHost(patterns, key, marker == "@revoked", f"{path}:{number}"))
    return known


def read(paths: Iterable[str]) -> list[KnownHost]:
    """The lines of several files; missing ones are empty."""
    known: list[KnownHost] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                known += parse(file.read(), path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostKeyRejected(
                f"the known host keys in {path} cannot be read ({error.strerror}): mend its "
                "permissions, or name another file as known_hosts"
            ) from error
    return known


def names_of(host: str, port: int) -> tuple[str, ...]:
    """The names a host goes by. As in OpenSSH, a key known without the port will do as well."""
    host = host.lower()
    return (host,) if port == 22 else (f"[{host}]:{port}", host)


def known_types(known: Iterable[KnownHost], names: tuple[str, ...]) -> list[str]:
    """The types of the keys a host is known by, for asking it for one of these first."""
    lines = [line for line in known if not line.is_revoked]
    return [line.key.kind for name in names for line in lines if line.matches(name)]


def judge(known: Iterable[KnownHost], names: tuple[str, ...], offered: HostKey) -> Verdict:
    """Compare the key a server offered with what is known about it.

    A host known only by keys of another type counts as changed: the caller asks the server for
    the known types first, so an honest server would have shown one of those.
    """
    known = list(known)
    same = [ln for ln in known if ln.key == offered and any(ln.matches(name) for name in names)]
    if any(line.is_revoked for line in same):
        return Verdict.REVOKED
    if same:
        return Verdict.KNOWN
    return Verdict.CHANGED if _lines_about(known, names[0]) else Verdict.UNKNOWN


def verify(
    offered: HostKey, host: str, port: int, paths: tuple[str, ...], policy: HostKeyPolicy
) -> None:
    """Accept the server's key or raise HostKeyRejected; ``accept-new`` notes it down."""
    if policy == "off":
        return
    names = names_of(host, port)
    known = read(paths)
    verdict = judge(known, names, offered)
    if verdict is Verdict.UNKNOWN and policy == "accept-new":
        _remember(offered, names[0], paths[0])
    elif verdict is not Verdict.KNOWN:
        lines = _lines_about(known, names[0])
        raise HostKeyRejected(_refusal(verdict, offered, host, port, paths, lines))


def _refusal(
    verdict: Verdict,
    offered: HostKey,
    host: str,
    port: int,
    paths: tuple[str, ...],
    lines: list[KnownHost],
) -> str:
    name = names_of(host, port)[0]
    shown = f"{offered.kind} {offered.fingerprint}"
    if verdict is Verdict.REVOKED:
        return (
            f"the host key of {name} ({shown}) is marked as revoked: do not log in; ask the "
            "site's administrators"
        )
    if verdict is Verdict.CHANGED:
        places = ", ".join(line.place for line in lines)
        return (
            f"the host key of {name} has CHANGED: it shows {shown}, but {places} says otherwise. "
            "Either the host was set up anew or somebody is posing as it. Ask the site's "
            f"administrators; if the new key is right, run: ssh-keygen -R '{name}' -f {paths[0]}"
        )
    return (
        f"{name} is not a known host: its key {shown} is in none of {', '.join(paths)}. Compare "
        "the fingerprint with the one the site publishes; if it is the same, run: "
        f"ssh-keyscan -p {port} {host} >> {paths[0]} (or log in once: ssh -p {port} {host})"
    )


def _lines_about(known: Iterable[KnownHost], name: str) -> list[KnownHost]:
    return [line for line in known if line.matches(name) and not line.is_revoked]


def _remember(key: HostKey, name: str, path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "ab") as file:  # one short append: whole, whoever else writes
        file.write(f"{name} {key.kind} {key.base64}\n".encode())


def _escape_brackets(pattern: str) -> str:
    """known_hosts patterns have only ``*`` and ``?``; ``[host]:port`` means itself."""
    return pattern.replace("[", "[[]")


def _hash_matches(pattern: str, name: str) -> bool:
    """``|1|salt|hash``: a name made unreadable by HashKnownHosts."""
    try:
        _, _, salt, digest = pattern.split("|")
        expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(expected, base64.b64decode(digest))
    except ValueError:
        return False

"""What to run: a script to upload, or a module, with its arguments, files and environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.runtime_env import checked_runtime_env

_PYTHON = re.compile(r"(?:.*/)?python[0-9.]*")
_VALUED_OPTIONS = ("-W", "-X", "--check-hash-based-pycs")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
# os.path.expandvars, which Ray's workers apply (ray/_private/utils.py, update_envs).
_EXPANDED = re.compile(r"\$(?:[A-Za-z_]|\{)")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True)
class Payload:
    """Everything that decides a job, apart from the run it belongs to."""

    command: tuple[str, ...]
    """Runs in the uploaded folder."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Uploaded beside the working directory's content: name there -> absolute path here."""
    working_dir: str | None = None
    """Absolute path here, or a URI that Ray fetches."""
    excludes: tuple[str, ...] = ()
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    """The user's as Ray takes it, without ``working_dir``, ``excludes`` and ``env_vars``."""
    env_vars: Mapping[str, str] = field(default_factory=dict)
    script: str | None = None
    """The one of ``files`` that runs."""

    @property
    def is_one_script(self) -> bool:
        """Whether one script is all there is to send: it needs no package, and Ray's workers no
        environment of their own, so those that wait already can take its tasks."""
        nothing_else = self.working_dir is None and not self.runtime_env
        return nothing_else and list(self.files) == [self.script]

    @property
    def has_local_working_dir(self) -> bool:
        return self.working_dir is not None and not _is_uri(self.working_dir)


@dataclass(frozen=True)
class CommandWords:
    """What ``payload_path`` says, part by part."""

    interpreter: tuple[str, ...]
    """With its options; empty if none is named."""
    script: str | None
    """None: a module or code, which the arguments begin with (``-m package.module``)."""
    arguments: tuple[str, ...]


def plan_payload(
    payload_path: str,
    *,
    extra_files: Sequence[str] = (),
    working_dir: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    extra_env: Mapping[str, str] | None = None,
) -> Payload:
    """Read ``payload_path`` and check everything that can be checked before anything is sent.

    ``payload_path`` is a script's path or ``python -m package.module``, either with arguments,
    quoted as in a shell. A script outside ``working_dir`` is uploaded with ``extra_files``, which
    land beside it. Relative paths start at the current folder, a script's also at ``working_dir``.

    Raises PayloadError.
    """
    env = dict(runtime_env or {})
    folder, excludes = _working_dir(working_dir, env)
    command, script = _command(payload_path, folder)
    check_command(command)
    name = os.path.basename(script) if script else None
    files = {name: script} if name and script else {}
    if isinstance(extra_files, str):
        raise PayloadError(f"extra_files is one text ({extra_files!r}): give a list of paths")
    paths = [os.path.abspath(os.path.expanduser(source)) for source in extra_files]
    for path in paths:
        if not os.path.exists(path):
            raise PayloadError(f"extra_files: there is no {path}")
    for path in paths:
        for extra, member in _members(path):
            if _UNWRITABLE.search(extra):
                raise PayloadError(f"extra_files: the name of {member!a} is not UTF-8: rename it")
            if files.setdefault(extra, member) != member:
                raise PayloadError(
                    f"extra_files: {files[extra]} and {member} would both be uploaded as "
                    f"{extra!r}: rename one"
                )
    if files and folder is not None and _is_uri(folder):
        raise PayloadError(
            f"working_dir is a URI ({folder}), so nothing can be added to it: give the script's "
            "path inside it, after `python`, and no extra_files"
        )
    env_vars = _environment(env.pop("env_vars", None) or {}, "runtime_env['env_vars']")
    env_vars |= _unexpanded(_environment(extra_env or {}, "extra_env"))
    checked = checked_runtime_env(env)
    return Payload(command, files, folder, excludes, checked, env_vars, name)


def check_command(words: Sequence[str]) -> None:
    """Raise PayloadError for what cannot be an argument of a program."""
    for word in words:
        if _UNWRITABLE.search(word):
            raise PayloadError(
                f"payload_path: {word[:80]!r} contains a NUL or half a character, which no program "
                "takes as an argument"
            )


def check_extras(extras: Mapping[str, Any]) -> None:
    """Raise PayloadError for what cannot travel to the payload."""
    for name, value in extras.items():
        try:
            json.dumps({name: value})
            _check_keys({name: value})
        except (TypeError, ValueError) as error:
            raise PayloadError(
                f"extras[{name!r}] cannot be sent to the payload as JSON ({error}): give texts, "
                "numbers, booleans, lists and mappings of them"
            ) from None


def _check_keys(value: Any) -> None:
    """Raise TypeError for a key that JSON would make text of."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def command_words(payload_path: str) -> CommandWords:
    """Read ``payload_path`` as a shell would. Raises PayloadError."""
    try:
        words = shlex.split(payload_path)
    except ValueError as error:
        raise PayloadError(f"payload_path {payload_path!r} is not quoted right: {error}") from None
    if not words:
        raise PayloadError("payload_path is empty: give a script or `python -m package.module`")
    position = 1 if _PYTHON.fullmatch(words[0]) else 0
    while 0 < position < len(words) and words[position].startswith("-"):
        if words[position] in ("-m", "-c"):
            if position + 1 >= len(words):
                missing = "module" if words[position] == "-m" else "code"
                raise PayloadError(
                    f"payload_path {payload_path!r}: no {missing} follows {words[position]}"
                )
            return CommandWords(tuple(words[:position]), None, tuple(words[position:]))
        position += 2 if words[position] in _VALUED_OPTIONS else 1
    if position >= len(words):
        raise PayloadError(f"payload_path {payload_path!r} names no script and no module")
    return CommandWords(tuple(words[:position]), words[position], tuple(words[position + 1 :]))


def _working_dir(given: str | None, env: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    inside = env.pop("working_dir", None)
    excludes = tuple(env.pop("excludes", None) or ())
    if given is not None and inside is not None and given != inside:
        raise PayloadError(
            f"working_dir is given twice: {given!r} and, in runtime_env, {inside!r}: keep one"
        )
    chosen = given if given is not None else inside
    if chosen is None or _is_uri(chosen):
        return chosen, excludes
    path = os.path.abspath(os.path.expanduser(chosen))
    if not os.path.isdir(path):
        raise PayloadError(f"working_dir {chosen!r} is no folder (looked for {path})")
    return path, excludes


def _command(payload_path: str, working_dir: str | None) -> tuple[tuple[str, ...], str | None]:
    """The command there, and the script here if it is to be uploaded."""
    found = _find_script(payload_path, working_dir)
    if found is not None:  # a path, perhaps with blanks in it
        return ("python", found[0]), found[1]
    words = command_words(payload_path)
    if words.script is None:
        return (*words.interpreter, *words.arguments), None
    found = _find_script(words.script, working_dir)
    if found is None and words.interpreter and working_dir is not None and _is_uri(working_dir):
        found = (words.script, None)
    if found is None:
        raise PayloadError(f"payload_path {payload_path!r}: {_why_not(words.script, working_dir)}")
    return (*(words.interpreter or ("python",)), found[0], *words.arguments), found[1]


def _why_not(script: str, working_dir: str | None) -> str:
    """Why this is no script to run, and what to do."""
    path = os.path.expanduser(script)
    if os.path.isdir(path):
        return f"{script!r} is a folder: give the script in it"
    if shutil.which(script) is not None:
        return f"{script!r} is another program: payloads are Python, give a script's path"
    where = "" if os.path.isabs(path) else f" in {os.getcwd()}"
    where += f" or {working_dir}" if where and working_dir else ""
    return f"there is no file {script!r}{where}; a module is run by `python -m package.module`"


def _find_script(path: str, working_dir: str | None) -> tuple[str, str | None] | None:
    """Its path there, and here if it has to be uploaded; None if there is no such file."""
    expanded = os.path.abspath(os.path.expanduser(path)) if path else ""
    folder = working_dir if working_dir is not None and not _is_uri(working_dir) else None
    if folder is not None and path and not os.path.isfile(expanded):
        expanded = os.path.join(folder, path)
    if not os.path.isfile(expanded):
        return None
    if folder is not None and os.path.realpath(expanded).startswith(
        os.path.realpath(folder) + os.sep
    ):
        inside = os.path.relpath(os.path.realpath(expanded), os.path.realpath(folder))
        return _no_option(inside), None
    return _no_option(os.path.basename(expanded)), expanded


def _no_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _members(path: str) -> Iterator[tuple[str, str]]:
    """A file, or all files of a folder, as (name there, path here)."""
    base = os.path.dirname(path)
    if not os.path.isdir(path):
        yield os.path.basename(path), path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            member = os.path.join(folder, name)
            yield os.path.relpath(member, base), member


def _environment(values: Mapping[str, Any], where: str) -> dict[str, str]:
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise PayloadError(f"{where}: {name!r} is {value!r}, but only text can be a variable")
        if not name or "=" in name or _UNWRITABLE.search(name + value):
            raise PayloadError(f"{where}: {name!r} cannot be a variable")
    return dict(values)


def _unexpanded(values: dict[str, str]) -> dict[str, str]:
    """The same: they are to arrive as they are, and Ray replaces variables in ``env_vars``."""
    for name, value in values.items():
        if _EXPANDED.search(value):
            raise PayloadError(
                f"extra_env: {name!r} contains a '$' before a name, and Ray would put a variable "
                "of its worker there: if that is meant, give it as RayLauncher.runtime_env"
                "['env_vars'], otherwise in extras"
            )
    return values


def _is_uri(text: str) -> bool:
    return _URI.match(text) is not None

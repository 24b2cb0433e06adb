"""A folder of installed packages as a virtual environment that runs wherever it is unpacked."""

from __future__ import annotations

import os
import stat
import tarfile

from dagster_glue.environment.platforms import Interpreter

# Python reads the second and third line as one string, the shell runs the second. This is what
# pip and uv write where a path is too long for a shebang line.
_START = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/python3 "$0" "$@"
' '''
"""
_COMPRESSION = 1  # most of the bytes are compiled code; more costs minutes and saves little


def make_relocatable(prefix: str, python: Interpreter) -> None:
    """Turn ``prefix`` (``bin``, ``lib/pythonX.Y``) into a virtual environment of ``python``.

    Python finds such an environment by the ``pyvenv.cfg`` above the folder it was started from, so
    only the programs in ``bin`` know where they are; they are made to look.
    """
    library = os.path.join(prefix, "lib")
    for name in os.listdir(library):  # uv names it after the Python it ran under
        if name.startswith("python") and name != f"python{python.minor}":
            os.rename(os.path.join(library, name), os.path.join(library, f"python{python.minor}"))
    programs = os.path.join(prefix, "bin")
    os.makedirs(programs, exist_ok=True)
    for name in os.listdir(programs):
        _start_beside(os.path.join(programs, name))
    for name in ("python", "python3", f"python{python.minor}"):
        os.symlink(python.path, os.path.join(programs, name))
    with open(os.path.join(prefix, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(
            f"home = {os.path.dirname(python.path)}\n"
            "include-system-site-packages = false\n"
            f"version = {'.'.join(map(str, python.version))}\n"
        )


def pack_folder(folder: str, archive: str) -> None:
    """Write what ``folder`` holds to a tar, gzipped if it is named so; nobody's in particular."""
    compressed = archive.endswith(".gz")
    with (
        tarfile.open(archive, "w:gz", compresslevel=_COMPRESSION)
        if compressed
        else tarfile.open(archive, "w")
    ) as tar:
        for name in sorted(os.listdir(folder)):
            tar.add(os.path.join(folder, name), name, filter=_nobodys)


def _start_beside(program: str) -> None:
    if os.path.islink(program) or not os.path.isfile(program):
        return
    with open(program, "rb") as file:
        content = file.read()
    body = _after_start(content)
    if body is not None:
        with open(program, "wb") as file:
            file.write(_START + body)


def _after_start(content: bytes) -> bytes | None:
    """What follows the line, or three lines, that name the interpreter; None if not Python."""
    first, _, rest = content.partition(b"\n")
    if content.startswith(b"#!/bin/sh\n'''exec'"):
        return rest.split(b"\n", 2)[2]
    if first.startswith(b"#!") and b"python" in first:
        return rest
    return None


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= stat.S_IRUSR | stat.S_IWUSR
    return member

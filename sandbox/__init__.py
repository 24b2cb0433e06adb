"""A real multi-host Slurm on one Debian or Ubuntu machine, for trying things out and for tests.

`Sandbox` boots it and takes it down; `python3 -m sandbox` is the same from a shell.
"""

from .errors import SandboxError
from .layout import Paths, Shape
from .sandbox import Sandbox

__all__ = ["Paths", "Sandbox", "SandboxError", "Shape"]

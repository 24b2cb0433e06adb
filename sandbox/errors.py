"""The one error of the sandbox: its message is meant for the person at the terminal."""

from __future__ import annotations


class SandboxError(Exception):
    """Something the sandbox cannot do; the message names the thing, the cause and the next step."""

"""What a user is told when a measurement cannot be made."""

from __future__ import annotations


class BenchmarkError(Exception):
    """The message names the thing, the cause and the next step."""

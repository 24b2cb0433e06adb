"""Errors a user can mend. Each message names the thing, the cause and the next step."""

from __future__ import annotations

import re

_LONG_WORD = re.compile(r"\S{500,}")


def _start_of(word: re.Match[str]) -> str:
    return f"{word.group()[:80]}... ({len(word.group())} characters)"


class ConfigError(ValueError):
    """The cluster YAML asks for something that cannot be; nothing was submitted.

    Of a word that is too long to be read, the message has the start.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_LONG_WORD.sub(_start_of, message))


class ClusterError(RuntimeError):
    """The cluster is not in a state that allows what was asked."""


class StartFailed(ClusterError):
    """A node did not come up; the message holds the end of its log."""

    def __init__(self, message: str, node_id: str) -> None:
        super().__init__(message)
        self.node_id = node_id

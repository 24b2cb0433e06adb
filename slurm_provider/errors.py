"""Errors a user can mend. Each message names the thing, the cause and the next step."""

from __future__ import annotations


class ConfigError(ValueError):
    """The cluster YAML asks for something that cannot be; nothing was submitted."""


class ClusterError(RuntimeError):
    """The cluster is not in a state that allows what was asked."""


class StartFailed(ClusterError):
    """A node did not come up; the message holds the end of its log."""

    def __init__(self, message: str, node_id: str) -> None:
        super().__init__(message)
        self.node_id = node_id

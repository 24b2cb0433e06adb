"""Test processes that run at once share one local Ray runtime, as steps do."""

from __future__ import annotations

from dagster_glue.clusters.local import LocalCluster


def end_unless_used(cluster: LocalCluster) -> None:
    """At the end of a process's tests. What another one still uses ends by its keeper."""
    if len(cluster.users()) == 1:
        cluster.stop()

"""What Slurm thinks of a cluster's node types; nothing is submitted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slurm_provider.fleet.offers import compared, time_beyond, too_little_memory
from slurm_provider.fleet.preview import preview
from slurm_provider.slurm import (
    Partition,
    SlurmClient,
    SlurmError,
    SlurmLimited,
    Submission,
    Verdict,
)

if TYPE_CHECKING:
    from slurm_provider.cluster import Cluster

_JOB_SCRIPT = b"#!/bin/sh\n"


@dataclass(frozen=True)
class TypeVerdict:
    """Slurm's opinion of a node type."""

    node_type: str
    problem: str | None
    """Why it cannot run, with Slurm's words and the next step; None if it can."""
    transient: bool = False
    """The problem may go away by itself: a partition is down, a quota is used up."""
    warnings: tuple[str, ...] = ()
    """Of a type that Slurm accepts: what will not work on most sites."""
    expected_start: float | None = None
    """Epoch seconds; Slurm's guess for a job submitted now."""


def test_node_types(cluster: Cluster, config: Mapping[str, Any]) -> list[TypeVerdict]:
    """Ask Slurm about every node type (`sbatch --test-only`), in the order of the YAML.

    A head on the edge node is left out. Raises SlurmUnavailable, SlurmMissing, TransportError.
    """
    on_edge = cluster.config.head_placement == "edge"
    names = [
        name
        for name in config["available_node_types"]
        if not (on_edge and name == config["head_node_type"])
    ]
    # sbatch reads the script, and there is none before the cluster's directory is made.
    script = f"{cluster.store.paths.root}.test-{secrets.token_hex(4)}.sh"
    transport = cluster.store.transport
    transport.write_file(script, _JOB_SCRIPT, mode=0o700)
    planned = {name: preview(cluster, config, name).submission for name in names}
    site = _Site(cluster.client)
    try:
        # At once: `ray up` waits for the answers before it submits anything.
        with ThreadPoolExecutor(max_workers=4) as pool:
            if any("time" in submission.options for submission in planned.values()):
                pool.submit(lambda: site.partitions)
            answers = pool.map(lambda name: _ask(cluster.client, planned[name], script), names)
            verdicts = dict(zip(names, answers, strict=True))
    finally:
        transport.remove_tree(script)
    return [
        _judged(name, verdicts[name], planned[name].options, site, name == config["head_node_type"])
        for name in names
    ]


def told_once(verdicts: Sequence[TypeVerdict]) -> list[tuple[str, TypeVerdict]]:
    """Problems, each with the node types that have it in words: one mistake in
    ``provider.defaults`` is one sentence."""
    names: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.problem is not None:
            names.setdefault(verdict.problem, []).append(repr(verdict.node_type))
    first = {verdict.problem: verdict for verdict in reversed(verdicts)}
    return [
        (f"node type{'s' if len(same) > 1 else ''} {' and '.join(same)}", first[problem])
        for problem, same in names.items()
    ]


def _ask(client: SlurmClient, planned: Submission, script: str) -> Verdict | SlurmLimited:
    submission = Submission(
        script=script, options=planned.options, provider_options=planned.provider_options
    )
    try:
        return client.test_only(submission)
    except SlurmLimited as error:
        return error


def _judged(
    name: str,
    verdict: Verdict | SlurmLimited,
    options: Mapping[str, Any],
    site: _Site,
    is_head: bool,
) -> TypeVerdict:
    if isinstance(verdict, SlurmLimited):
        return TypeVerdict(name, f"Slurm takes no such job now: {verdict}", transient=True)
    if not verdict.accepted:
        hint = site.instead(verdict.words, options)
        return TypeVerdict(name, f"Slurm refused it: {verdict.words}{hint}")
    warnings = [too_little_memory(options, is_head=is_head)]
    beyond = time_beyond(options, site.partitions) if "time" in options else None
    if beyond is not None:
        # Without a partition of its own, a plug-in of the site may choose one by the time.
        escape = site.who_lifts_time_limits or (
            "" if "partition" in options else "unless the site chooses another partition"
        )
        if not escape:
            return TypeVerdict(name, f"it would wait for ever: {beyond}; ask for a shorter time")
        warnings.append(f"{beyond}; {escape}, it would wait for ever")
    return TypeVerdict(
        name, None, expected_start=verdict.expected_start,
        warnings=tuple(warning for warning in warnings if warning),
    )  # fmt: skip


class _Site:
    """What the site has, each asked once and only when it matters."""

    def __init__(self, client: SlurmClient) -> None:
        self._client = client
        self._texts: dict[str, str] = {}

    @cached_property
    def partitions(self) -> list[Partition]:
        """None at all where nobody tells."""
        try:
            return self._client.partitions()
        except SlurmError:
            return []  # a refusal to explain the refusal would hide it

    @cached_property
    def who_lifts_time_limits(self) -> str:
        """Which QOS may, in words; empty where none does."""
        try:
            names = self._client.lifting_qos()
        except SlurmError:
            return "unless its QOS lifts that limit"
        return f"unless QOS {' or '.join(names)} lifts that limit" if names else ""

    def instead(self, words: str, options: Mapping[str, Any]) -> str:
        """A sentence to append to Slurm's words, or nothing."""
        lower = words.lower()
        for topic in ("account", "qos", "partition"):
            if topic in lower:
                if topic not in self._texts:
                    self._texts[topic] = self._ask(topic)
                return self._texts[topic]
        return compared(words, options, self.partitions)

    def _ask(self, topic: str) -> str:
        if topic == "partition":
            names = [partition.name for partition in self.partitions]
            return f". Partitions here: {', '.join(names)}" if names else ""
        try:
            found = self._client.accounts().associations
        except SlurmError:
            return ""  # a refusal to explain the refusal would hide it
        if topic == "account":
            names = sorted({association.account for association in found})
            return f". Your accounts: {', '.join(names)}" if names else ""
        qos = sorted({name for association in found for name in association.qos})
        return f". Your QOS: {', '.join(qos)}" if qos else ""

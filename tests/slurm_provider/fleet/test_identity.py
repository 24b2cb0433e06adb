"""A job's name says which Ray node it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.fleet.identity import (
    JobIdentity,
    name_error,
    new_cluster_uuid,
    new_launch_id,
    node_id,
    parse_job_name,
    split_node_id,
)

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True)
identities = st.builds(
    JobIdentity,
    cluster=names,
    node_type=names,
    uuid=st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    kind=st.sampled_from(["head", "worker"]),
    launch=st.from_regex(r"[a-z2-9]{10}", fullmatch=True),
    index=st.none() | st.integers(0, 999_999_999),
)


@settings(deadline=None)
@given(identities)
def test_an_identity_survives_the_job_name(identity: JobIdentity) -> None:
    assert parse_job_name(identity.job_name) == identity


@settings(deadline=None)
@given(identities)
def test_a_job_name_is_one_short_printable_word(identity: JobIdentity) -> None:
    assert identity.job_name.isprintable() and identity.job_name.isascii()
    assert not set(identity.job_name) & set(" %,|\"'$`\\")
    assert len(identity.job_name) < 256


@settings(deadline=None)
@given(st.text())
def test_any_other_text_is_read_without_an_error(name: str) -> None:
    parse_job_name(name)
    parse_job_name(f"ray:c:t:u:worker:{name}")


@pytest.mark.parametrize(
    "name",
    ["", "sh", "ray", "ray:c:t:u:worker", "ray:c:t:u:driver:abc", "ray:c:t:u:worker:",
     "ray:c:t:u:worker:abc-", "ray:c:t:u:worker:abc-x", "ray:c:t:u:worker:abc:1",
     "jupyter:c:t:u:worker:abc", "ray:c:t:u:worker:abc-\u00b2", "ray:c:t:u:worker:abc-\u0661"],
)  # fmt: skip
def test_a_job_of_anybody_else_is_no_node(name: str) -> None:
    assert parse_job_name(name) is None


@settings(deadline=None)
@given(st.from_regex(r"[a-z2-9]{10}", fullmatch=True), st.integers(0, 10**6))
def test_a_node_id_can_be_taken_apart(launch: str, index: int) -> None:
    assert split_node_id(node_id(launch, index)) == (launch, index)


def test_ids_are_short_and_never_repeat() -> None:
    launches = {new_launch_id() for _ in range(1000)}
    assert len(launches) == 1000
    assert all(len(launch) == 10 and launch.isalnum() for launch in launches)
    assert len({new_cluster_uuid() for _ in range(1000)}) == 1000


@settings(deadline=None)
@given(names)
def test_a_usable_name_is_safe_in_a_shell_and_as_a_label(name: str) -> None:
    import shlex

    from ray._private.label_utils import validate_label_value

    assert name_error(name) is None
    assert shlex.quote(name) == name
    validate_label_value(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "-a", "a-", ".a", "a.", "a$b", "ä", "a\n", "a" * 64, "a/b", "a;b"]
)
def test_a_name_that_would_break_something_is_refused_with_the_rule(name: str) -> None:
    assert "letters, digits" in (name_error(name) or "")

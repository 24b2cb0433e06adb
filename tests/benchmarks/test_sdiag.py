from __future__ import annotations

import pytest

from benchmarks.sdiag import RpcCounts, parse_sdiag

SDIAG = """\
Server thread count:  1
Jobs submitted: 51

Remote Procedure Call statistics by message type
\tREQUEST_PARTITION_INFO                  ( 2009) count:364    ave_time:294    total_time:107079
\tREQUEST_SUBMIT_BATCH_JOB                ( 4003) count:51     ave_time:1188   total_time:60628

Remote Procedure Call statistics by user
\tuser1           (   57001) count:1279   ave_time:473    total_time:605859
\troot            (       0) count:276    ave_time:472    total_time:130460

Pending RPC statistics
\tREQUEST_PARTITION_INFO                  ( 2009) count:1
"""


def test_calls_are_counted_by_type_and_by_user_and_pending_ones_are_not() -> None:
    counts = parse_sdiag(SDIAG)
    assert counts.by_type == {"REQUEST_PARTITION_INFO": 364, "REQUEST_SUBMIT_BATCH_JOB": 51}
    assert counts.by_user == {"user1": 1279, "root": 276}


def test_the_difference_leaves_out_what_did_not_change() -> None:
    before = RpcCounts({"A": 1}, {"root": 5, "user1": 7})
    after = RpcCounts({"A": 4, "B": 2}, {"root": 5, "user1": 9})
    assert after.since(before) == RpcCounts({"A": 3, "B": 2}, {"user1": 2})


def test_a_text_without_users_is_refused() -> None:
    with pytest.raises(ValueError, match="names no user"):
        parse_sdiag("sdiag: error: something else\n")

from __future__ import annotations

from benchmarks.tick_process import squeue_text
from slurm_provider.fleet.identity import parse_job_name
from slurm_provider.slurm.queue import parse_queue


def test_the_generated_listing_is_one_that_the_provider_reads() -> None:
    jobs = parse_queue(squeue_text(1203))
    assert len({job.job_id for job in jobs}) == 1203
    identities = [parse_job_name(job.name) for job in jobs]
    assert [i.kind for i in identities if i is not None].count("head") == 1
    assert None not in identities


def test_some_of_the_generated_nodes_wait_so_that_the_watcher_is_at_its_fast_pace() -> None:
    assert 0 < sum(job.state.is_pending for job in parse_queue(squeue_text(100))) < 20

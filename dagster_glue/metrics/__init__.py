"""What a run used of Slurm, for its metadata."""

from dagster_glue.metrics.fetch import WAIT_S, Fetched, fetch_records
from dagster_glue.metrics.intervals import Window
from dagster_glue.metrics.job_order import job_order
from dagster_glue.metrics.metadata import usage_metadata
from dagster_glue.metrics.unaccounted import measure_unaccounted
from dagster_glue.metrics.usage import Figure, JobUsage, Usage, measure
from dagster_glue.metrics.workers import samples_of_jobs, worker_plot

__all__ = [
    "WAIT_S",
    "Fetched",
    "Figure",
    "JobUsage",
    "Usage",
    "Window",
    "fetch_records",
    "job_order",
    "measure",
    "measure_unaccounted",
    "samples_of_jobs",
    "usage_metadata",
    "worker_plot",
]

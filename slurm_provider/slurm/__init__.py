"""The Slurm client: the only place that knows Slurm's words.

Free-form options in, validated argv out; Slurm's text in, frozen dataclasses out.
"""

from slurm_provider.slurm.accounting import GpuUse, JobRecord, StepRecord
from slurm_provider.slurm.client import SlurmClient
from slurm_provider.slurm.errors import (
    AccountingUnavailable,
    ArrayRefused,
    SlurmError,
    SlurmLimited,
    SlurmMissing,
    SlurmOutputError,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_provider.slurm.hetjob import MAX_COMPONENTS, Component, carried_over
from slurm_provider.slurm.option_table import OPTIONS, Option
from slurm_provider.slurm.options import OptionError, check_turned_off, to_argv, validate
from slurm_provider.slurm.quantities import (
    Gres,
    parse_gres,
    parse_memory_mb,
    parse_time_s,
    time_text,
)
from slurm_provider.slurm.queue import Job
from slurm_provider.slurm.reasons import PendingReason, ReasonKind, explain
from slurm_provider.slurm.request import Requested, requested
from slurm_provider.slurm.site import Accounts, Association, HostGroup, Partition, SiteConfig
from slurm_provider.slurm.states import JobState, parse_state
from slurm_provider.slurm.submit import Submission, Submitted, Verdict, submit_argv

__all__ = [
    "MAX_COMPONENTS",
    "OPTIONS",
    "AccountingUnavailable",
    "Accounts",
    "ArrayRefused",
    "Association",
    "Component",
    "GpuUse",
    "Gres",
    "HostGroup",
    "Job",
    "JobRecord",
    "JobState",
    "Option",
    "OptionError",
    "Partition",
    "PendingReason",
    "ReasonKind",
    "Requested",
    "SiteConfig",
    "SlurmClient",
    "SlurmError",
    "SlurmLimited",
    "SlurmMissing",
    "SlurmOutputError",
    "SlurmRefused",
    "SlurmUnavailable",
    "StepRecord",
    "Submission",
    "Submitted",
    "Verdict",
    "carried_over",
    "check_turned_off",
    "explain",
    "parse_gres",
    "parse_memory_mb",
    "parse_state",
    "parse_time_s",
    "requested",
    "submit_argv",
    "time_text",
    "to_argv",
    "validate",
]

"""Every long option of sbatch: what it takes, what it does, and who may set it (data only).

Source: `man sbatch` and `sbatch --help` of Slurm 22.05, and the options that `man sbatch` of 24.11
and 26.05 adds; those carry ``newer=True`` because Slurm 22.05 refuses them.
An option with a ``reason`` belongs to the provider; the reason is what a user is told.

To add an option: one line here, in alphabetical order.
"""

from __future__ import annotations

from dataclasses import dataclass

from slurm_provider.slurm.option_values import (
    CLUSTER,
    COUNT,
    DURATION,
    EXTRA,
    FLAG,
    GPUS,
    GRES,
    HOST,
    INTEGER_OR_BARE,
    LIST,
    MEMORY,
    MOMENT,
    NUMBER,
    PRIORITY,
    TEXT,
    TEXT_OR_NUMBER,
    ValueKind,
    choice,
    whole_number,
)


@dataclass(frozen=True)
class Option:
    """One long option of sbatch, without its dashes."""

    name: str
    kind: ValueKind
    help: str
    reason: str | None = None
    short: str | None = None
    newer: bool = False

    @property
    def owner(self) -> str:
        """``user``, or ``provider`` if a node_config may not set it."""
        return "user" if self.reason is None else "provider"


_ONE_HOST = "a Ray node is one job on one host, with one task; Ray starts the processes in it"
_LOGS = "the provider keeps each node's log in the cluster's folder; see it with `ray-slurm logs`"
_ENVIRONMENT = (
    "jobs get a clean environment, so that nothing of the submitting shell leaks into Ray; "
    "use provider.environment and provider.env"
)
_REQUEUE = "Ray asks for a replacement itself; a requeued job would come back as a dead node"
_ANSWER = "the provider reads sbatch's answer itself"
_SCRIPT = "the provider brings its own job script"
_IDENTITY = "the provider recognises its nodes by it"
_SELF = "jobs are submitted as yourself"

_OPTIONS = (
    Option("account", TEXT, "Charge the job to this account.", short="A"),
    Option("acctg-freq", TEXT_OR_NUMBER, "Sampling intervals of job accounting (task=30)."),
    Option(
        "array",
        TEXT,
        "Submit a job array.",
        "N nodes of one type are submitted as one array by the provider; use max_workers",
        short="a",
    ),
    Option("batch", TEXT, "Features of the host that runs the batch script.", _ONE_HOST),
    Option("bb", TEXT, "Burst buffer specification."),
    Option("bbf", TEXT, "File with a burst buffer specification."),
    Option("begin", MOMENT, "Do not start before this moment.", short="b"),
    Option(
        "chdir",
        TEXT,
        "Working directory of the batch script.",
        "the provider sets the working directory of its own script",
        short="D",
    ),
    Option("cluster-constraint", TEXT, "Features a federated cluster must have."),
    Option("clusters", CLUSTER, "Submit to this Slurm cluster.", short="M"),
    Option("comment", TEXT, "Free text stored with the job.", _IDENTITY),
    Option("consolidate-segments", FLAG, "Keep all segments in one base block.", newer=True),
    Option("constraint", TEXT, "Features the host must have (a&b, a|b).", short="C"),
    Option("container", TEXT, "OCI container bundle to run in."),
    Option("container-id", TEXT, "Name of the OCI container.", newer=True),
    Option("container-type", TEXT, "Type of the OCI container.", newer=True),
    Option("contiguous", FLAG, "Ask for neighbouring hosts."),
    Option("core-spec", NUMBER, "Cores kept for the system.", short="S"),
    Option("cores-per-socket", COUNT, "Only hosts with at least this many cores per socket."),
    Option("cpu-freq", TEXT_OR_NUMBER, "CPU frequency or governor for job steps."),
    Option("cpus-per-gpu", COUNT, "CPUs per GPU of the node."),
    Option("cpus-per-task", COUNT, "CPUs of the node.", short="c"),
    Option("deadline", MOMENT, "Remove the job if it cannot end before this moment."),
    Option("delay-boot", DURATION, "Wait this long before booting hosts for a feature."),
    Option("dependency", TEXT, "Start only after other jobs (afterok:123).", short="d"),
    Option("distribution", TEXT, "Placement of tasks on sockets and cores.", short="m"),
    Option("error", TEXT, "File for standard error.", _LOGS, short="e"),
    Option("exclude", LIST, "Never use these hosts.", short="x"),
    Option(
        "exclusive",
        choice("user", "mcs", "topo", bare=True),
        "Share the host with nobody (or only with own jobs).",
    ),
    Option("export", TEXT, "Environment variables passed on to the job.", _ENVIRONMENT),
    Option("export-file", TEXT, "File of environment variables for the job.", _ENVIRONMENT),
    Option("extra", EXTRA, "Free text for scheduling by node extra constraints.", newer=True),
    Option("extra-node-info", TEXT, "Sockets[:cores[:threads]] a host must have.", short="B"),
    Option("get-user-env", FLAG, "Load the login environment.", _ENVIRONMENT),
    Option("gid", TEXT, "Submit with this group's rights (root only).", _SELF),
    Option("gpu-bind", TEXT, "Binding of tasks to GPUs."),
    Option("gpu-freq", TEXT, "Frequency and voltage of the GPUs."),
    Option("gpus", GPUS, "GPUs of the job, which is one node.", short="G"),
    Option("gpus-per-node", GPUS, "GPUs of the node."),
    Option("gpus-per-socket", GPUS, "GPUs per socket; needs sockets-per-node."),
    Option("gpus-per-task", GPUS, "GPUs per task; a node is one task."),
    Option("gres", GRES, "Generic resources of the node (gpu:a100:2)."),
    Option("gres-flags", LIST, "How generic resources are bound to cores."),
    Option("help", FLAG, "Show help.", _ANSWER, short="h"),
    Option(
        "hint",
        choice("compute_bound", "memory_bound", "multithread", "nomultithread"),
        "Binding according to the kind of application.",
    ),
    Option(
        "hold",
        FLAG,
        "Submit in held state.",
        "a held job never starts by itself, so Ray would wait for its node without end",
        short="H",
    ),
    Option("ignore-pbs", FLAG, "Ignore #PBS lines of the script.", _SCRIPT),
    Option("input", TEXT, "File for standard input.", _SCRIPT, short="i"),
    Option("job-name", TEXT, "Name of the job.", _IDENTITY, short="J"),
    Option(
        "kill-on-invalid-dep",
        choice("yes", "no"),
        "End the job if its dependency can never be satisfied.",
    ),
    Option("licenses", LIST, "Licenses the job needs (matlab:2).", short="L"),
    Option("mail-type", LIST, "Events to send mail about (END, FAIL ...)."),
    Option("mail-user", TEXT, "Who gets the mail."),
    Option("mcs-label", TEXT, "Multi-category security label."),
    Option("mem", MEMORY, "Memory of the node; 0 is all memory of the host."),
    Option("mem-bind", TEXT, "Binding of tasks to memory."),
    Option("mem-per-cpu", MEMORY, "Memory per CPU of the node."),
    Option("mem-per-gpu", MEMORY, "Memory per GPU of the node."),
    Option(
        "mem-update",
        TEXT,
        "Lower the memory limit to what is in use after a while.",
        "Ray learns a node's memory once, at its start, and would use what Slurm takes away later",
        newer=True,
    ),
    Option("mincpus", COUNT, "Only hosts with at least this many CPUs."),
    Option("network", TEXT, "Switch or network details, site dependent."),
    Option("nice", INTEGER_OR_BARE, "Lower the priority by this much (100 if bare)."),
    Option(
        "no-kill",
        choice("off", bare=True),
        "Keep the job when a host of it fails.",
        "a node whose host has failed must end, or Ray would wait for it",
        short="k",
    ),
    Option("no-requeue", FLAG, "Never requeue the job.", _REQUEUE),
    Option(
        "nodefile",
        TEXT,
        "File of host names.",
        "Slurm gives a job all hosts of the file, and a Ray node is on one; use nodelist",
        short="F",
    ),
    Option("nodelist", HOST, "Run on this host.", short="w"),
    Option("nodes", choice("1", "1-1"), "Hosts of the job; always 1.", short="N"),
    Option("ntasks", choice("1"), "Tasks of the job; always 1.", short="n"),
    Option("ntasks-per-core", COUNT, "At most this many tasks per core."),
    Option(
        "ntasks-per-gpu",
        COUNT,
        "Tasks per GPU.",
        f"{_ONE_HOST}; use cpus-per-gpu for CPUs in proportion to GPUs",
    ),
    Option("ntasks-per-node", choice("1"), "Tasks per host; always 1."),
    Option("ntasks-per-socket", COUNT, "At most this many tasks per socket."),
    Option(
        "oom-kill-step",
        choice("0", "1", bare=True),
        "End the whole step if one process runs out of memory.",
        newer=True,
    ),
    Option("open-mode", choice("append", "truncate"), "How logs are opened.", _LOGS),
    Option("output", TEXT, "File for standard output.", _LOGS, short="o"),
    Option("overcommit", FLAG, "More than one task per CPU.", short="O"),
    Option("oversubscribe", FLAG, "Allow sharing CPUs with other jobs.", short="s"),
    Option("parsable", FLAG, "Print the job id only.", _ANSWER),
    Option("partition", LIST, "Partition, or several to choose from.", short="p"),
    Option("power", LIST, "Power management options."),
    Option("prefer", TEXT, "Features wished for, not required."),
    Option("priority", PRIORITY, "Priority of the job (operators only)."),
    Option("profile", LIST, "Detailed data to collect (energy, task ...)."),
    Option(
        "propagate",
        ValueKind("nothing or list", lambda value: True if value is True else LIST.convert(value)),
        "Resource limits to pass on to the job.",
    ),
    Option("qos", TEXT, "Quality of service.", short="q"),
    Option("quiet", FLAG, "Say less.", _ANSWER, short="Q"),
    Option("reboot", FLAG, "Reboot the host first (operators only)."),
    Option("requeue", choice("expedite", bare=True), "Let Slurm requeue the job.", _REQUEUE),
    Option("reservation", LIST, "Run in this reservation."),
    Option("resources", LIST, "Cluster-wide or hierarchical resources.", newer=True),
    Option("resv-ports", whole_number(0, bare=True), "Reserve communication ports.", newer=True),
    Option("segment", COUNT, "Hosts per segment of a block topology.", newer=True),
    Option(
        "signal",
        TEXT,
        "Signal before the time limit.",
        "the provider has its own warning before the time limit, to drain the node",
    ),
    Option("sockets-per-node", COUNT, "Only hosts with at least this many sockets."),
    Option("spread-job", FLAG, "Spread the job over many hosts."),
    Option("spread-segments", FLAG, "Segments on different base blocks.", newer=True),
    Option("stepmgr", FLAG, "Manage job steps on the node itself.", newer=True),
    Option("switches", TEXT_OR_NUMBER, "At most this many switches (1@01:00:00)."),
    Option("test-only", FLAG, "Check, but do not submit.", _ANSWER),
    Option("thread-spec", NUMBER, "Threads kept for the system."),
    Option("threads-per-core", COUNT, "At most this many threads per core."),
    Option("time", DURATION, "Time limit of the node.", short="t"),
    Option("time-min", DURATION, "Lowest time limit the scheduler may reduce it to."),
    Option("tmp", MEMORY, "Disk space the host must have for temporary files."),
    Option("tres-bind", TEXT, "Binding of tasks to resources.", newer=True),
    Option(
        "tres-per-task",
        LIST,
        "Resources per task.",
        "Ray's resources are read from cpus-per-task, gpus-per-node or gres; use those",
        newer=True,
    ),
    Option("uid", TEXT, "Submit as this user (root only).", _SELF),
    Option("usage", FLAG, "Show usage.", _ANSWER),
    Option("use-min-nodes", FLAG, "Prefer fewer hosts if a range is asked."),
    Option("verbose", FLAG, "Say more.", _ANSWER, short="v"),
    Option("version", FLAG, "Show the version.", _ANSWER, short="V"),
    Option("wait", FLAG, "Return when the job ends.", _ANSWER, short="W"),
    Option("wait-all-nodes", choice("0", "1"), "Start only when all hosts have booted."),
    Option("wckey", TEXT, "Workload characterization key."),
    Option("wrap", TEXT, "A command instead of a script.", _SCRIPT),
)

ONLY_ONE = {"nodes": _ONE_HOST, "ntasks": _ONE_HOST, "ntasks-per-node": _ONE_HOST}
"""Options a user may set, but only to 1, and why."""

OPTIONS: dict[str, Option] = {option.name: option for option in _OPTIONS}
"""Every long option by name."""

"""sbatch, squeue, scancel, sacct and scontrol in one small program: STATE COMMAND ARG...

It keeps its jobs in STATE/jobs.json, notes each call in STATE/calls.jsonl and answers truthfully,
unless STATE/answers/COMMAND.json says what to answer. Only the standard library, and no project
code: the tests are about what real programs may print.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

Jobs = list[dict[str, str]]
Options = dict[str, str]
Words = list[str]
Answer = tuple[int, str, str]  # exit code, stdout, stderr

US, RS = "\x1f", "\x1e"
# squeue's headers and our keys for the letters of --format (`man squeue`).
COLUMNS = {
    "i": ("JOBID", "job_id"),
    "A": ("JOBID", "raw_id"),
    "T": ("STATE", "state"),
    "r": ("REASON", "reason"),
    "P": ("PARTITION", "partition"),
    "N": ("NODELIST", "nodelist"),
    "V": ("SUBMIT_TIME", "submit"),
    "S": ("START_TIME", "start"),
    "e": ("END_TIME", "end"),
    "l": ("TIME_LIMIT", "limit"),
    "C": ("CPUS", "cpus"),
    "j": ("NAME", "name"),
}


def sbatch(jobs: Jobs, options: Options, _: Words) -> Answer:
    if "test-only" in options:
        return 0, "", "sbatch: Job 1 to start at 2030-01-01T00:00:00 using 1 processors\n"
    number = str(1 + max([100, *(int(job["raw_id"]) for job in jobs)]))
    tasks = options.get("array")
    ids = [f"{number}_{task}" for task in indices(tasks)] if tasks else [number]
    for job_id in ids:
        jobs.append(
            {
                "job_id": job_id,
                "raw_id": number,
                "state": "PENDING",
                "reason": "Priority",
                "partition": options.get("partition", "compute"),
                "nodelist": "",
                "submit": str(int(time.time())),
                "start": "N/A",
                "end": "N/A",
                "limit": "1:00:00",
                "cpus": "2",
                "name": options["job-name"],
            }
        )
    return 0, f"{number}\n", ""


def squeue(jobs: Jobs, options: Options, _: Words) -> Answer:
    letters = [part.lstrip("%") for part in options["format"].rstrip(RS).split(US)]
    rows = [[COLUMNS[letter][0] for letter in letters]]
    rows += [[job[COLUMNS[letter][1]] for letter in letters] for job in jobs]
    return 0, "".join(US.join(row) + RS + "\n" for row in rows), ""


def scancel(jobs: Jobs, _: Options, words: Words) -> Answer:
    known = {job["job_id"]: job for job in jobs}
    known.update({job["raw_id"]: job for job in jobs})
    errors = []
    for word in words:
        base, bracket, tasks = word.partition("_[")
        ids = [f"{base}_{i}" for i in indices(tasks.rstrip("]"))] if bracket else [word]
        for job_id in ids:
            if job_id not in known:
                errors.append(f"scancel: error: Kill job error on job id {job_id}: "
                              "Invalid job id specified\n")  # fmt: skip
                continue
            for job in jobs:
                if job_id in (job["job_id"], job["raw_id"]):
                    job["state"] = "CANCELLED"
    return (1 if errors else 0), "", "".join(errors)


def scontrol(_: Jobs, __: Options, ___: Words) -> Answer:
    return 0, "ClusterName = fake\nSLURM_VERSION = 26.05.1\nMaxArraySize = 1001\n", ""


def sacct(_: Jobs, __: Options, ___: Words) -> Answer:
    return 0, "", ""


def indices(text: str) -> Iterator[int]:
    for part in text.split(","):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def main(state: str, command: str, args: Words) -> int:
    options: Options = {}
    words: Words = []
    for arg in args:
        name, _, value = arg[2:].partition("=")
        if arg.startswith("--"):
            options[name] = value
        else:
            words.append(arg)
    with open(os.path.join(state, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(os.path.join(state, "calls.jsonl"), "a") as calls:
            calls.write(json.dumps({"argv": [command, *args], "env": dict(os.environ)}) + "\n")
        answer = next_answer(os.path.join(state, "answers", f"{command}.json"))
        if answer is None or answer["done"]:
            path = os.path.join(state, "jobs.json")
            with open(path) as file:
                jobs = json.load(file)
            result: Answer = globals()[command](jobs, options, words)
            with open(path, "w") as file:
                json.dump(jobs, file)
        if answer is not None and not answer["truth"]:
            result = answer["rc"], answer["stdout"], answer["stderr"]
    if answer is not None:
        time.sleep(answer["sleep_s"])
    sys.stdout.write(result[1])
    sys.stderr.write(result[2])
    return result[0]


def next_answer(path: str) -> dict[str, Any] | None:
    """The first prepared answer; the last one stays. None: the truth."""
    try:
        with open(path) as file:
            answers: list[dict[str, Any] | None] = json.load(file)
    except FileNotFoundError:
        return None
    if len(answers) > 1:
        with open(path, "w") as file:
            json.dump(answers[1:], file)
    return answers[0]


sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

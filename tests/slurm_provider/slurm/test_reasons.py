from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import ReasonKind, explain

KINDS = {
    ReasonKind.WAITING: """None Priority Resources BeginTime Dependency Licenses Reservation
        ReqNodeNotAvail NodeDown FrontEndDown PartitionDown PartitionInactive Prolog Cleaning
        BurstBufferResources BurstBufferStageIn PowerNotAvail PowerReserved FedJobLock SchedDefer
        WaitingForScheduling PartitionNodeLimit""",
    ReasonKind.LIMITED: """AssocGrpBB AssocGrpBBMinutes AssocGrpBBRunMinutes AssocGrpBilling
        AssocGrpBillingMinutes AssocGrpBillingRunMinutes AssocGrpCPUMinutesLimit
        AssocGrpCPURunMinutesLimit AssocGrpCpuLimit AssocGrpEnergy AssocGrpGRES AssocGrpGRESMinutes
        AssocGrpGRESRunMinutes AssocGrpJobsLimit AssocGrpLicense AssocGrpMemLimit AssocGrpMemMinutes
        AssocGrpMemRunMinutes AssocGrpNodeLimit AssocGrpNodeMinutes AssocGrpSubmitJobsLimit
        AssocGrpUnknown AssocGrpWallLimit AssocMaxJobsLimit AssocMaxSubmitJobLimit
        AssociationJobLimit AssociationResourceLimit AssociationTimeLimit JobArrayTaskLimit
        MaxCpuPerAccount MaxGRESPerAccount MaxJobsPerAccount MaxMemoryPerAccount MaxNodePerAccount
        MaxSubmitJobsPerAccount QOSGrpBilling QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit
        QOSGrpCpuLimit QOSGrpGRES QOSGrpGRESMinutes QOSGrpJobsLimit QOSGrpMemLimit
        QOSGrpMemoryMinutes QOSGrpNodeLimit QOSGrpSubmitJobsLimit QOSGrpWallLimit QOSJobLimit
        QOSMaxCpuPerUserLimit QOSMaxGRESPerUser QOSMaxJobsPerUserLimit QOSMaxMemoryPerUser
        QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit QOSResourceLimit QOSTimeLimit
        QOSUsageThreshold AccountingPolicy""",
    ReasonKind.HELD: """JobHeldUser JobHeldAdmin JobHoldMaxRequeue ReservationDeleted""",
    ReasonKind.NEVER: """PartitionConfig PartitionTimeLimit BadConstraints
        DependencyNeverSatisfied AccountNotAllowed QOSNotAllowed InvalidAccount InvalidQOS
        MaxMemPerLimit AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode
        AssocMaxGRESPerJob AssocMaxGRESPerNode AssocMaxMemPerJob AssocMaxNodePerJobLimit
        AssocMaxWallDurationPerJobLimit QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit
        QOSMaxCpuPerNode QOSMaxGRESPerJob QOSMaxMemoryPerJob QOSMaxNodePerJobLimit
        QOSMaxWallDurationPerJobLimit QOSMinCpuNotSatisfied QOSMinGRES QOSMinMemory QOSMinNode""",
    ReasonKind.ENDED: """DeadLine InactiveLimit JobLaunchFailure NonZeroExitCode OutOfMemory
        RaisedSignal SystemFailure TimeLimit""",
}
TABLE = [(code, kind) for kind, codes in KINDS.items() for code in codes.split()]


@pytest.mark.parametrize(("code", "kind"), TABLE)
def test_a_reason_is_told_apart_and_put_in_words(code: str, kind: ReasonKind) -> None:
    reason = explain(code)
    assert reason.kind is kind
    assert code not in reason.text
    assert " " in reason.text


@pytest.mark.parametrize(
    ("words", "kind", "part"),
    [
        ("(Priority)", ReasonKind.WAITING, "higher priority"),
        ("(ReqNodeNotAvail, UnavailableNodes:n[1-2])", ReasonKind.WAITING, "unavailable: n[1-2]"),
        ("ReqNodeNotAvail, Reserved for maintenance", ReasonKind.WAITING, "Reserved for maint"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
            "partitions",
            ReasonKind.WAITING,
            "down, drained or reserved",
        ),
        ("launch failed requeued held", ReasonKind.HELD, "held"),
        ("user env retrieval failed requeued held", ReasonKind.HELD, "login environment"),
        ("job requeued in held state", ReasonKind.HELD, "release"),
        ("RaisedSignal:9(Killed)", ReasonKind.ENDED, "9(Killed)"),
        ("QOSGrpCpuLimit", ReasonKind.LIMITED, "the QOS is at its limit of CPUs"),
        ("AssocGrpGRES", ReasonKind.LIMITED, "your account is at its limit of GPUs"),
        ("QOSMaxGRESPerUser", ReasonKind.LIMITED, "you are at the limit of GPUs"),
        ("QOSMinMemory", ReasonKind.NEVER, "ask for more"),
        ("SomethingNew2031", ReasonKind.UNKNOWN, "SomethingNew2031"),
        ("QOSMaxSomethingNew", ReasonKind.UNKNOWN, "QOSMaxSomethingNew"),
    ],
)
def test_a_reason_keeps_its_details(words: str, kind: ReasonKind, part: str) -> None:
    reason = explain(words)
    assert reason.kind is kind
    assert part in reason.text


@pytest.mark.parametrize(
    ("code", "begin"),
    [
        ("Priority", "waiting its turn: "),
        ("QOSGrpCpuLimit", "limited by a quota: "),
        ("JobHeldUser", "held: "),
        ("PartitionTimeLimit", "can never run: "),
        ("SomethingNew2031", "Slurm says: "),
    ],
)
def test_a_sentence_begins_with_what_kind_of_wait_it_is(code: str, begin: str) -> None:
    assert explain(code).sentence.startswith(begin)


@given(st.text())
def test_any_text_is_explained_without_an_error(words: str) -> None:
    assert explain(words).text

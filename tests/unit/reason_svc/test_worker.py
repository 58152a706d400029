"""The worker with a fake reasoner and a fake store behind a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lares.store.internal.v1 import job_service_pb2 as pb
from mesh.identity import assessment_id
from mesh.problems import Denied, Exhausted, Internal, Invalid, Problem, Unavailable
from mesh.retry import Backoff
from reason_svc.messages import timestamp
from reason_svc.reasoner import ModelChoice, ReasonerReadiness
from reason_svc.worker import WorkCounts
from tests.support.reason_worker import CONCURRENCY, NOW, ReasonWorkerBench, open_reason_worker
from tests.support.suspension import Suspension
from tests.support.waiting import until

LONG_SECONDS = 7200.0


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReasonWorkerBench]:
    monkeypatch.setattr("mesh.job_client.RELEASE_SECONDS", 90.0)
    async with open_reason_worker(tmp_path) as opened:
        yield opened


@pytest.fixture
async def stopped_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ReasonWorkerBench, Suspension]]:
    """Its leases are so long that no test sees one renewed in time; after a suspension that is longer it is
    that of a worker that stood still."""
    suspension = Suspension(monkeypatch)
    async with open_reason_worker(tmp_path, lease_seconds=LONG_SECONDS, renew_seconds=LONG_SECONDS) as opened:
        yield opened, suspension


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many failures in a row each pause was for, in order. The pauses take no time."""
    counts: list[int] = []

    def pause(_: Backoff, failures: int) -> float:
        counts.append(failures)
        return 0.0

    monkeypatch.setattr(Backoff, "pause", pause)
    return counts


@pytest.fixture
async def pausing_bench(tmp_path: Path) -> AsyncIterator[ReasonWorkerBench]:
    """Its worker pauses for longer than any test after the first failure."""
    async with open_reason_worker(tmp_path, backoff=Backoff(7200, 7200)) as opened:
        yield opened


async def test_a_due_event_is_assessed_and_published(bench: ReasonWorkerBench) -> None:
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.log.facts)
    (fact,) = bench.log.facts
    evidence = lease.assess.evidence
    assert (fact.event_id, fact.camera_id) == (evidence.event_id, "front-door")
    assert (fact.evidence_revision, fact.evidence_digest) == (3, evidence.digest)
    assert fact.assessment.id == assessment_id(evidence.event_id, evidence.digest, "fake/v1", "", "")
    assert fact.assessment.score == 15
    assert fact.assessment.assessed_at == timestamp(NOW)
    assert bench.store.released == []


async def test_events_are_leased_up_to_the_concurrency(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    async with bench.running():
        for number in range(1, CONCURRENCY + 1):
            bench.store.due(f"{number}")
            await until(lambda: bench.reasoner.assessing == number)  # noqa: B023
        bench.store.due("one too many")
        await until(lambda: len(bench.store.renewed) > 2 * CONCURRENCY)
        assert bench.reasoner.begun == CONCURRENCY
        assert bench.store.asked == [3, 2, 1]
        bench.reasoner.open.set()
        await until(lambda: len(bench.log.facts) == CONCURRENCY + 1)


async def test_a_backlog_is_leased_in_batches_and_each_event_published_once(bench: ReasonWorkerBench) -> None:
    names = [f"{number}" for number in range(50)]
    events = [bench.store.due(name).subject_id for name in names]
    async with bench.running():
        await until(lambda: len(bench.log.facts) == len(names))
    assert sorted(fact.event_id for fact in bench.log.facts) == sorted(events)
    assert max(bench.store.asked) == CONCURRENCY


async def test_leases_are_renewed_during_an_assessment(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    lease = bench.store.due("slow")
    async with bench.running():
        await until(lambda: bench.store.renewed.count(lease.lease_id) >= 3)
        assert bench.log.facts == []
        bench.reasoner.open.set()
        await until(lambda: bench.log.facts)


@pytest.mark.parametrize("late", [0.0, LONG_SECONDS / 2 + 1])
async def test_a_worker_that_stood_still_asks_whether_its_lease_is_held_before_it_publishes(
    stopped_bench: tuple[ReasonWorkerBench, Suspension], late: float
) -> None:
    bench, suspension = stopped_bench
    bench.reasoner.open.clear()
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.assessing)
        suspension.seconds = late
        bench.reasoner.open.set()
        await until(lambda: bench.log.facts)
    assert bench.store.renewed == ([lease.lease_id] if late else [])


async def test_a_lease_that_was_waited_for_long_is_renewed_before_publishing(
    stopped_bench: tuple[ReasonWorkerBench, Suspension],
) -> None:
    """When the store granted it is not known."""
    bench, suspension = stopped_bench
    async with bench.running():
        await until(lambda: bench.store.asked)
        suspension.seconds = LONG_SECONDS
        lease = bench.store.due("one")
        await until(lambda: bench.log.facts)
    assert bench.store.renewed == [lease.lease_id]


async def test_a_worker_that_stood_still_does_not_repeat_the_work_of_another(
    stopped_bench: tuple[ReasonWorkerBench, Suspension],
) -> None:
    bench, suspension = stopped_bench
    bench.reasoner.open.clear()
    lost = bench.store.due("lost")
    bench.store.lost.add(lost.lease_id)
    async with bench.running():
        await until(lambda: bench.reasoner.assessing)
        suspension.seconds = LONG_SECONDS
        bench.reasoner.open.set()
        kept = bench.store.due("kept")
        await until(lambda: bench.log.facts)
    assert [fact.event_id for fact in bench.log.facts] == [kept.subject_id]
    assert lost.lease_id not in bench.store.released
    assert bench.worker.counts() == WorkCounts(assessing=0, assessed=1, failed=0)


async def test_nothing_is_published_while_the_store_does_not_say_whether_the_lease_is_held(
    stopped_bench: tuple[ReasonWorkerBench, Suspension],
) -> None:
    bench, suspension = stopped_bench
    bench.reasoner.open.clear()
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.assessing)
        suspension.seconds = LONG_SECONDS
        bench.store.problem = Unavailable("no database", "DB")
        bench.reasoner.open.set()
        await until(lambda: bench.store.released)
    assert bench.store.released == [lease.lease_id]
    assert bench.log.facts == []


async def test_a_lost_lease_cancels_its_assessment_and_nothing_is_published(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    lost = bench.store.due("lost")
    bench.store.lost.add(lost.lease_id)
    async with bench.running():
        await until(lambda: bench.reasoner.cancelled == 1)
        bench.reasoner.open.set()
        bench.store.due("next")
        await until(lambda: bench.log.facts)
    (fact,) = bench.log.facts
    assert fact.event_id != lost.assess.evidence.event_id
    assert lost.lease_id not in bench.store.released


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (Invalid("no JSON", "BAD_ANSWER"), "BAD_ANSWER", "no JSON"),
        (Internal("internal error", "INTERNAL"), "INTERNAL", "internal error"),
        (ZeroDivisionError("a path: /root/secret"), "INTERNAL", "unexpected error in the reasoner"),
        (TimeoutError(), "TIMEOUT", "no assessment within 120 s"),
    ],
)
async def test_a_failed_attempt_is_a_fact(
    bench: ReasonWorkerBench, error: Exception, reason: str, detail: str
) -> None:
    bench.reasoner.error = error
    lease = bench.store.due("bad")
    async with bench.running():
        await until(lambda: bench.log.facts)
        bench.reasoner.error = None
        bench.store.due("good")
        await until(lambda: len(bench.log.facts) == 2)
    failure, success = bench.log.facts
    assert not failure.HasField("assessment")
    assert (failure.failure.reason, failure.failure.detail) == (reason, detail)
    assert failure.failure.failed_at == timestamp(NOW)
    assert (failure.event_id, failure.evidence_revision) == (lease.assess.evidence.event_id, 3)
    assert success.HasField("assessment")
    assert bench.store.released == []


async def test_malformed_evidence_is_a_failed_attempt(bench: ReasonWorkerBench) -> None:
    lease = bench.store.due("odd")
    lease.assess.evidence.time_zone = "Mars/Olympus"
    async with bench.running():
        await until(lambda: bench.log.facts)
    assert bench.log.facts[0].failure.reason == "BAD_TIME_ZONE"


async def test_the_id_of_a_failure_depends_only_on_the_attempt(bench: ReasonWorkerBench) -> None:
    bench.reasoner.error = Invalid("no JSON", "BAD_ANSWER")
    async with bench.running():
        for number, attempt in enumerate((1, 1, 2), 1):
            bench.store.due("bad", attempt)
            await until(lambda: len(bench.log.facts) == number)  # noqa: B023
    first, again, second = sorted(fact.failure.id for fact in bench.log.facts)
    assert len({first, again, second}) == 2


@pytest.mark.parametrize("error", [Unavailable("it is away", "NO_ANSWER"), Exhausted("too many", "RATE")])
async def test_an_unreachable_reasoner_is_not_a_failed_attempt(
    bench: ReasonWorkerBench, error: Problem
) -> None:
    bench.reasoner.error = error
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        assert bench.store.released == [lease.lease_id]
        assert bench.log.facts == []
        bench.reasoner.error = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)


@pytest.mark.parametrize("state", [ReasonerReadiness.LOADING, ReasonerReadiness.UNREACHABLE])
async def test_nothing_is_leased_while_the_reasoner_is_away(
    bench: ReasonWorkerBench, state: ReasonerReadiness
) -> None:
    bench.reasoner.state = state
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.reports >= 4)
        assert bench.store.asked == []
        bench.reasoner.state = ReasonerReadiness.READY
        await until(lambda: bench.log.facts)
    assert bench.store.released == []


async def test_a_reasoner_that_comes_back_with_fewer_slots_gets_no_more_events(
    bench: ReasonWorkerBench,
) -> None:
    """As a model server that restarts with fewer: as many as it takes now are with it already."""
    bench.reasoner.open.clear()
    bench.reasoner.slots = 2
    async with bench.running():
        await until(lambda: bench.store.asked)
        bench.reasoner.state = ReasonerReadiness.UNREACHABLE
        bench.store.due("one")
        await until(lambda: bench.reasoner.assessing)
        reports = bench.reasoner.reports
        await until(lambda: bench.reasoner.reports > reports)
        bench.reasoner.slots, bench.reasoner.state = 1, ReasonerReadiness.READY
        await until(lambda: len(bench.store.renewed) > 5)
        bench.reasoner.open.set()
        bench.store.due("two")
        await until(lambda: len(bench.log.facts) == 2)
    assert set(bench.store.asked) == {1, 2}


async def test_the_pause_ends_when_the_reasoner_is_back(pausing_bench: ReasonWorkerBench) -> None:
    bench = pausing_bench
    bench.reasoner.error = Unavailable("it is away", "NO_ANSWER")
    bench.reasoner.slots = 1
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        bench.reasoner.state = ReasonerReadiness.UNREACHABLE
        reports = bench.reasoner.reports
        await until(lambda: bench.reasoner.reports >= reports + 4)
        bench.reasoner.error, bench.reasoner.state = None, ReasonerReadiness.READY
        bench.store.due("one")
        await until(lambda: bench.log.facts)  # the pause of two hours has ended


async def test_pauses_grow_with_failures_until_an_event_is_assessed(
    bench: ReasonWorkerBench, failures: list[int]
) -> None:
    bench.reasoner.error = away = Unavailable("it is away", "NO_ANSWER")
    async with bench.running():
        for released in (1, 2):
            bench.store.due("one")
            await until(lambda: len(bench.store.released) == released)  # noqa: B023
        assert failures == [1, 2]
        bench.reasoner.error = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)
        bench.reasoner.error = away
        bench.store.due("one")
        await until(lambda: len(bench.store.released) == 3)
    assert failures == [1, 2, 1]


async def test_nothing_is_leased_during_the_pause(pausing_bench: ReasonWorkerBench) -> None:
    bench = pausing_bench
    bench.reasoner.error = Exhausted("too many", "RATE")
    bench.reasoner.slots = 1
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        bench.store.due("one")
        reports = bench.reasoner.reports
        await until(lambda: bench.reasoner.reports >= reports + 4)
        assert (bench.store.asked, bench.reasoner.begun) == ([1], 1)


async def test_events_are_leased_up_to_the_slots_of_the_reasoner(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    bench.reasoner.slots = 1
    for name in ("one", "two", "three"):
        bench.store.due(name)
    async with bench.running():
        await until(lambda: len(bench.store.renewed) > 2)
        assert (bench.reasoner.begun, bench.store.asked) == (1, [1])
        assert bench.worker.counts() == WorkCounts(assessing=1)
        bench.reasoner.slots = 2
        bench.reasoner.open.set()
        await until(lambda: len(bench.log.facts) == 3)
        assert max(bench.store.asked) == 2


async def test_assessments_and_failures_are_counted(bench: ReasonWorkerBench) -> None:
    bench.reasoner.error = Invalid("no JSON", "BAD_ANSWER")
    bench.store.due("bad")
    async with bench.running():
        await until(lambda: bench.worker.counts().failed == 1)
        bench.reasoner.error = None
        bench.store.due("good")
        await until(lambda: bench.worker.counts() == WorkCounts(assessing=0, assessed=1, failed=1))


async def test_a_reasoner_that_misses_its_deadline_is_stopped_by_the_workers(tmp_path: Path) -> None:
    async with open_reason_worker(tmp_path, assess_seconds=0.1) as bench:
        bench.reasoner.open.clear()
        bench.store.due("slow")
        async with bench.running():
            await until(lambda: bench.log.facts)
    assert bench.log.facts[0].failure.reason == "TIMEOUT"
    assert bench.reasoner.cancelled == 1


@pytest.mark.parametrize(
    ("reason", "given_up"), [("UNKNOWN_MODEL", "again"), ("UNKNOWN_PROMPT", "again"), ("BAD_ANSWER", "")]
)
async def test_a_request_is_passed_to_the_reasoner_and_given_up_if_it_cannot_succeed(
    bench: ReasonWorkerBench, reason: str, given_up: str
) -> None:
    bench.reasoner.error = Invalid("no", reason)
    bench.store.due("one", request=pb.ReassessmentRequest(request_id="again", model="m", prompt="p"))
    async with bench.running():
        await until(lambda: bench.log.facts)
    assert bench.reasoner.choices == [ModelChoice("m", "p")]
    assert bench.log.facts[0].failure.given_up_request_id == given_up


async def test_a_reassessment_carries_its_request_id(bench: ReasonWorkerBench) -> None:
    lease = bench.store.due("one", request=pb.ReassessmentRequest(request_id="again"))
    async with bench.running():
        await until(lambda: bench.log.facts)
    assessment, evidence = bench.log.facts[0].assessment, lease.assess.evidence
    assert assessment.request_id == "again"
    assert assessment.id == assessment_id(evidence.event_id, evidence.digest, "fake/v1", "", "again")


async def test_the_lease_is_left_to_expire_if_publishing_fails(bench: ReasonWorkerBench) -> None:
    """The fact may be on the log, and a job that was released is not held back until the log was read."""
    bench.log.problem = Unavailable("Kafka does not answer", "KAFKA_NOT_READY")
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.log.tries)
        bench.log.problem = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)
    assert bench.log.tries == 2
    assert bench.store.released == []


async def test_the_lease_is_left_to_expire_if_the_worker_stops_while_publishing(
    bench: ReasonWorkerBench,
) -> None:
    bench.log.open.clear()
    bench.store.due("published")
    async with bench.running():
        await until(lambda: bench.log.tries)
        bench.reasoner.open.clear()
        other = bench.store.due("assessed")
        await until(lambda: bench.reasoner.assessing)
    assert bench.store.released == [other.lease_id]


@pytest.mark.parametrize(
    "problem", [Unavailable("no database", "DB"), Internal("internal error", "INTERNAL")]
)
async def test_leasing_is_retried_while_the_store_fails(bench: ReasonWorkerBench, problem: Problem) -> None:
    bench.store.problem = problem
    async with bench.running():
        await until(lambda: len(bench.store.asked) >= 3)
        bench.store.problem = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)


async def test_pauses_grow_with_failures_until_leasing_succeeds(
    bench: ReasonWorkerBench, failures: list[int]
) -> None:
    problem = Unavailable("no database", "DB")
    bench.store.problem = problem
    async with bench.running():
        await until(lambda: len(failures) >= 2)
        bench.store.problem = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)
        before = len(failures)
        assert failures == list(range(1, before + 1))
        bench.store.problem = problem
        bench.store.due("two")  # ends the call that waits for an event; the next one fails
        await until(lambda: len(failures) > before)
    assert failures[before] == 1


async def test_a_failed_renewal_does_not_end_the_assessment(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.assessing)
        bench.store.problem = Unavailable("no database", "DB")
        await until(lambda: bench.store.refused >= 2)
        bench.store.problem = None
        await until(lambda: bench.store.renewed.count(lease.lease_id) >= 2)
        bench.reasoner.open.set()
        await until(lambda: bench.log.facts)
    assert bench.reasoner.begun == 1


async def test_a_problem_that_waiting_cannot_solve_ends_the_worker(bench: ReasonWorkerBench) -> None:
    bench.store.problem = Denied("only Lares's own services may call this", "SIBLINGS_ONLY")
    async with bench.running() as task:
        await until(task.done)
        with pytest.raises(Denied):
            task.result()


async def test_leases_are_released_when_the_worker_is_cancelled(bench: ReasonWorkerBench) -> None:
    bench.reasoner.open.clear()
    leases = {bench.store.due(name).lease_id for name in ("one", "two")}
    async with bench.running():
        await until(lambda: bench.reasoner.assessing == 2)
    assert bench.reasoner.cancelled == 2
    assert set(bench.store.released) == leases
    assert bench.log.facts == []

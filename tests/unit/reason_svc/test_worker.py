"""The judge's loop against a store that keeps its promises, over a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lares.store.internal.v1 import job_service_pb2 as pb
from mesh.identity import assessment_id
from mesh.problems import Denied, Exhausted, Internal, Invalid, Problem, Unavailable
from reason_svc.messages import stamp
from reason_svc.reasoner import State, Wish
from reason_svc.tally import Tally
from tests.support.judge_bench import CONCURRENCY, NOW, Bench, open_bench
from tests.support.waiting import until


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("reason_svc.leases.PARTING_SECONDS", 90.0)
    async with open_bench(tmp_path) as opened:
        yield opened


async def test_a_due_event_is_judged_and_told(bench: Bench) -> None:
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.log.facts)
    (fact,) = bench.log.facts
    evidence = lease.assess.evidence
    assert (fact.event_id, fact.camera_id) == (evidence.event_id, "front-door")
    assert (fact.evidence_revision, fact.evidence_digest) == (3, evidence.digest)
    assert fact.assessment.id == assessment_id(evidence.event_id, evidence.digest, "fake/v1", "", "")
    assert fact.assessment.score == 40
    assert fact.assessment.assessed_at == stamp(NOW)
    assert bench.store.released == []


async def test_another_is_leased_while_one_is_judged_up_to_the_bound(bench: Bench) -> None:
    bench.reasoner.open.clear()
    async with bench.running():
        for number in range(1, CONCURRENCY + 1):
            bench.store.due(f"{number}")
            await until(lambda: bench.reasoner.judging == number)  # noqa: B023
        bench.store.due("one too many")
        await until(lambda: len(bench.store.renewed) > 2 * CONCURRENCY)
        assert bench.reasoner.begun == CONCURRENCY
        assert bench.store.asked == [3, 2, 1]
        bench.reasoner.open.set()
        await until(lambda: len(bench.log.facts) == CONCURRENCY + 1)


async def test_a_backlog_is_leased_in_batches_and_each_told_once(bench: Bench) -> None:
    names = [f"{number}" for number in range(50)]
    events = [bench.store.due(name).subject_id for name in names]
    async with bench.running():
        await until(lambda: len(bench.log.facts) == len(names))
    assert sorted(fact.event_id for fact in bench.log.facts) == sorted(events)
    assert max(bench.store.asked) == CONCURRENCY


async def test_leases_are_renewed_while_judging(bench: Bench) -> None:
    bench.reasoner.open.clear()
    lease = bench.store.due("slow")
    async with bench.running():
        await until(lambda: bench.store.renewed.count(lease.lease_id) >= 3)
        assert bench.log.facts == []
        bench.reasoner.open.set()
        await until(lambda: bench.log.facts)


async def test_a_lost_lease_ends_its_judging_and_nothing_is_said(bench: Bench) -> None:
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
        (ZeroDivisionError("a path: /root/secret"), "INTERNAL", "the judge broke"),
        (TimeoutError(), "TIMEOUT", "no judgement within 120 s"),
    ],
)
async def test_a_failed_attempt_is_a_fact(bench: Bench, error: Exception, reason: str, detail: str) -> None:
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
    assert failure.failure.failed_at == stamp(NOW)
    assert (failure.event_id, failure.evidence_revision) == (lease.assess.evidence.event_id, 3)
    assert success.HasField("assessment")
    assert bench.store.released == []


async def test_evidence_that_cannot_be_judged_is_a_failed_attempt(bench: Bench) -> None:
    lease = bench.store.due("odd")
    lease.assess.evidence.time_zone = "Mars/Olympus"
    async with bench.running():
        await until(lambda: bench.log.facts)
    assert bench.log.facts[0].failure.reason == "BAD_TIME_ZONE"


async def test_each_attempt_has_an_id_of_its_own_and_always_the_same(bench: Bench) -> None:
    bench.reasoner.error = Invalid("no JSON", "BAD_ANSWER")
    async with bench.running():
        for attempt in (1, 1, 2):
            bench.store.due("bad", attempt)
        await until(lambda: len(bench.log.facts) == 3)
    first, again, second = sorted(fact.failure.id for fact in bench.log.facts)
    assert len({first, again, second}) == 2


@pytest.mark.parametrize("error", [Unavailable("it is away", "NO_ANSWER"), Exhausted("too many", "RATE")])
async def test_a_judge_that_cannot_be_reached_is_no_attempt(bench: Bench, error: Problem) -> None:
    bench.reasoner.error = error
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        assert bench.store.released == [lease.lease_id]
        assert bench.log.facts == []
        bench.reasoner.error = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)


@pytest.mark.parametrize("state", [State.LOADING, State.UNREACHABLE])
async def test_nothing_is_leased_while_the_judge_is_away(bench: Bench, state: State) -> None:
    bench.reasoner.state = state
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.reports >= 4)
        assert bench.store.asked == []
        bench.reasoner.state = State.READY
        await until(lambda: bench.log.facts)
    assert bench.store.released == []


async def test_a_judge_that_is_back_is_not_left_alone_any_longer(bench: Bench) -> None:
    bench.worker._backoff._next = 7200
    bench.reasoner.error = Unavailable("it is away", "NO_ANSWER")
    bench.reasoner.slots = 1
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        bench.reasoner.state = State.UNREACHABLE
        reports = bench.reasoner.reports
        await until(lambda: bench.reasoner.reports >= reports + 4)
        bench.reasoner.error, bench.reasoner.state = None, State.READY
        bench.store.due("one")
        await until(lambda: bench.log.facts)  # within two hours, but for the word that it is back


async def test_a_judge_that_was_never_away_is_left_alone(bench: Bench) -> None:
    bench.worker._backoff._next = 7200
    bench.reasoner.error = Exhausted("too many", "RATE")
    bench.reasoner.slots = 1
    bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released)
        bench.store.due("one")
        reports = bench.reasoner.reports
        await until(lambda: bench.reasoner.reports >= reports + 4)
        assert (bench.store.asked, bench.reasoner.begun) == ([1], 1)


async def test_no_more_at_once_than_the_judge_has_slots(bench: Bench) -> None:
    bench.reasoner.open.clear()
    bench.reasoner.slots = 1
    for name in ("one", "two", "three"):
        bench.store.due(name)
    async with bench.running():
        await until(lambda: len(bench.store.renewed) > 2)
        assert (bench.reasoner.begun, bench.store.asked) == (1, [1])
        assert bench.worker.tally() == Tally(assessing=1)
        bench.reasoner.slots = 2
        bench.reasoner.open.set()
        await until(lambda: len(bench.log.facts) == 3)
        assert max(bench.store.asked) == 2


async def test_it_counts_what_it_does(bench: Bench) -> None:
    bench.reasoner.error = Invalid("no JSON", "BAD_ANSWER")
    bench.store.due("bad")
    async with bench.running():
        await until(lambda: bench.worker.tally().failed == 1)
        bench.reasoner.error = None
        bench.store.due("good")
        await until(lambda: bench.worker.tally() == Tally(assessing=0, assessed=1, failed=1))


async def test_a_judge_without_a_deadline_of_its_own_has_ours(bench: Bench) -> None:
    bench.worker._judge_seconds = 0.1
    bench.reasoner.open.clear()
    bench.store.due("slow")
    async with bench.running():
        await until(lambda: bench.log.facts)
    assert bench.log.facts[0].failure.reason == "TIMEOUT"
    assert bench.reasoner.cancelled == 1


@pytest.mark.parametrize(
    ("reason", "given_up"), [("UNKNOWN_MODEL", "again"), ("UNKNOWN_PROMPT", "again"), ("BAD_ANSWER", "")]
)
async def test_a_wish_is_told_to_the_judge_and_given_up_if_it_can_never_be_met(
    bench: Bench, reason: str, given_up: str
) -> None:
    bench.reasoner.error = Invalid("no", reason)
    bench.store.due("one", request=pb.ReassessmentRequest(request_id="again", model="m", prompt="p"))
    async with bench.running():
        await until(lambda: bench.log.facts)
    assert bench.reasoner.wishes == [Wish("m", "p")]
    assert bench.log.facts[0].failure.given_up_request_id == given_up


async def test_a_wished_judgement_says_whose_it_is(bench: Bench) -> None:
    lease = bench.store.due("one", request=pb.ReassessmentRequest(request_id="again"))
    async with bench.running():
        await until(lambda: bench.log.facts)
    assessment, evidence = bench.log.facts[0].assessment, lease.assess.evidence
    assert assessment.request_id == "again"
    assert assessment.id == assessment_id(evidence.event_id, evidence.digest, "fake/v1", "", "again")


async def test_a_log_that_is_away_gives_the_event_back(bench: Bench) -> None:
    bench.log.problem = Unavailable("Kafka does not answer", "KAFKA_NOT_READY")
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.store.released == [lease.lease_id])
        bench.log.problem = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)
    assert bench.log.tries == 2


@pytest.mark.parametrize(
    "problem", [Unavailable("no database", "DB"), Internal("internal error", "INTERNAL")]
)
async def test_a_store_in_trouble_is_waited_for(bench: Bench, problem: Problem) -> None:
    bench.store.problem = problem
    async with bench.running():
        await until(lambda: len(bench.store.asked) >= 3)
        bench.store.problem = None
        bench.store.due("one")
        await until(lambda: bench.log.facts)


async def test_a_renewal_that_fails_costs_nothing(bench: Bench) -> None:
    bench.reasoner.open.clear()
    lease = bench.store.due("one")
    async with bench.running():
        await until(lambda: bench.reasoner.judging)
        bench.store.problem = Unavailable("no database", "DB")
        await until(lambda: bench.store.refused >= 2)
        bench.store.problem = None
        await until(lambda: bench.store.renewed.count(lease.lease_id) >= 2)
        bench.reasoner.open.set()
        await until(lambda: bench.log.facts)
    assert bench.reasoner.begun == 1


async def test_what_no_waiting_can_mend_ends_the_worker(bench: Bench) -> None:
    bench.store.problem = Denied("only Lares's own services may call this", "SIBLINGS_ONLY")
    async with bench.running() as task:
        await until(task.done)
        with pytest.raises(Denied):
            task.result()


async def test_cancelled_while_judging_it_gives_the_lease_back(bench: Bench) -> None:
    bench.reasoner.open.clear()
    leases = {bench.store.due(name).lease_id for name in ("one", "two")}
    async with bench.running():
        await until(lambda: bench.reasoner.judging == 2)
    assert bench.reasoner.cancelled == 2
    assert set(bench.store.released) == leases
    assert bench.log.facts == []

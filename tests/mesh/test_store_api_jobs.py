"""JobService over gRPC, by pytest-grpc, on a real PostgreSQL."""

from typing import Any
from uuid import uuid4

import pytest

from lares.store.internal.v1 import job_service_pb2 as pb
from lares.store.internal.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from mesh.problems import Denied, Invalid
from store_svc.api.jobs import JobServicer
from store_svc.commit_signals import CommitSignals
from store_svc.domain.job import ASSESS, Request
from store_svc.job_leases import JobKind, JobLeases
from store_svc.job_queue import request_message
from store_svc.queries.assess_inputs import AssessInputs
from store_svc.queries.evidence import EvidenceReader
from store_svc.read_progress import ReadProgress
from tests.support.loop_thread import LoopThread
from tests.support.recorded import FakeStream
from tests.support.store_rows import NOON, at, due_rows
from tests.support.sync_database import AS_KEY, SyncDatabase, refused


@pytest.fixture(scope="module")
def stored(loop_thread: LoopThread, postgres_server: str) -> SyncDatabase:
    return SyncDatabase(loop_thread, postgres_server)


@pytest.fixture(scope="module")
def grpc_servicer(stored: SyncDatabase, loop_thread: LoopThread) -> JobServicer:
    facts = ReadProgress(FakeStream().ends, FakeStream().behind, lambda: NOON)
    assert loop_thread.run(facts.update())
    kinds = {ASSESS: JobKind(facts, AssessInputs(EvidenceReader()).read)}
    return JobServicer(JobLeases(stored.database, kinds, CommitSignals().due, 60.0, lambda: NOON))


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return add_JobServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return JobServiceStub


@pytest.fixture
def jobs(grpc_stub: JobServiceStub, stored: SyncDatabase) -> JobServiceStub:
    stored.clear()
    return grpc_stub


def lease(jobs: JobServiceStub, most: int = 5) -> list[pb.JobLease]:
    return list(jobs.LeaseJobs(pb.LeaseJobsRequest(kind=pb.JOB_KIND_ASSESS, max_jobs=most)).leases)


def test_only_a_sibling_gets_leases(jobs: JobServiceStub) -> None:
    for call, request in [
        (jobs.LeaseJobs, pb.LeaseJobsRequest(kind=pb.JOB_KIND_ASSESS, max_jobs=1)),
        (jobs.RenewLeases, pb.RenewLeasesRequest()),
        (jobs.ReleaseLeases, pb.ReleaseLeasesRequest()),
    ]:
        with refused(Denied, "SIBLINGS_ONLY"):
            call(request, metadata=AS_KEY)  # type: ignore[operator]


@pytest.mark.parametrize("kind", [0, 99])
def test_an_unknown_kind_is_refused(jobs: JobServiceStub, kind: Any) -> None:
    with refused(Invalid, "BAD_REQUEST"):
        jobs.LeaseJobs(pb.LeaseJobsRequest(kind=kind, max_jobs=1))


def test_a_lease_over_grpc(jobs: JobServiceStub, stored: SyncDatabase) -> None:
    request = request_message(Request(uuid4(), "another", "v2"))
    asked = {"request_id": request.request_id, "request": request.SerializeToString()}
    pair = due_rows(started_at=at(1), attempts=2, **asked)
    stored.write_due(pair, due_rows(started_at=at(0)))
    first, second = lease(jobs)
    assert (first.subject_id, first.attempt) == (str(pair[0]["id"]), 3)
    assert first.assess.evidence.event_id == first.subject_id
    assert first.assess.evidence.digest == pair[0]["evidence_digest"]
    assert first.assess.request == request
    assert not second.assess.HasField("request")
    held = [first.lease_id, second.lease_id]
    renewed = jobs.RenewLeases(pb.RenewLeasesRequest(lease_ids=[*held, str(uuid4())]))
    assert sorted(renewed.lease_ids) == sorted(held)
    assert renewed.expires_at == first.expires_at
    jobs.ReleaseLeases(pb.ReleaseLeasesRequest(lease_ids=held[:1]))
    assert list(jobs.RenewLeases(pb.RenewLeasesRequest(lease_ids=held)).lease_ids) == held[1:]


def test_a_lease_id_that_is_not_a_uuid_is_refused(jobs: JobServiceStub) -> None:
    with refused(Invalid, "BAD_REQUEST"):
        jobs.RenewLeases(pb.RenewLeasesRequest(lease_ids=["mine"]))

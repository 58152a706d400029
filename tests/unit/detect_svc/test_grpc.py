"""DetectService as an external client calls it, with pytest-grpc."""

from typing import Any, cast

import grpc
import pytest

from detect_svc.api import DetectServicer
from detect_svc.detectors.frame_message import frame_message
from lares.detect.v1 import detect_service_pb2 as messages
from lares.detect.v1 import detect_service_pb2_grpc as rpc
from mesh.problems import Internal, Invalid, Problem, Unauthenticated, Unavailable
from mesh.processes.sandbox import Crashed, Hung
from mesh.rpc import problem_of
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Caller, Door
from tests.support.detectors import FakeDetector, person

KEY = (("x-api-key", "good"),)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Any:
    return rpc.add_DetectServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_servicer() -> DetectServicer:
    detector = FakeDetector()
    detector.results = {
        "person": frame_message(64, 48, [person(0.9)]),
        "cut": Invalid("the JPEG ends too early", "TRUNCATED"),
        "crash": Crashed("this input crashes the program that reads it", "CHILD_CRASHED"),
        "slow": Hung("no answer within 20 s", "CHILD_HUNG"),
        "odd": Internal("OSError: /srv/secret", "CHILD_FAILED"),
    }

    async def lag() -> int:
        return 3

    def gpus(minutes: int) -> messages.ListGpusResponse:
        return messages.ListGpusResponse(gpus=[messages.Gpu(name="a GPU")])

    return DetectServicer(lambda: detector, lag, gpus)


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Any:
    return rpc.DetectServiceStub


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[grpc.aio.ServerInterceptor]:
    async def verify(secret: str) -> Caller:
        if secret != "good":
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        return Caller.of_key("1", "Ann")

    return [CallInterceptor(Door.CLIENTS, verify)]


def problem(stub: Any, image: bytes, metadata: Any = KEY) -> Problem:
    with pytest.raises(grpc.RpcError) as refused:
        stub.DetectObjects(messages.DetectObjectsRequest(image=image), metadata=metadata)
    return problem_of(cast(grpc.aio.AioRpcError, refused.value))


def test_an_image_returns_its_detections(grpc_stub: Any) -> None:
    answer = grpc_stub.DetectObjects(messages.DetectObjectsRequest(image=b"person"), metadata=KEY)
    assert [one.label for one in answer.detections] == ["person"]
    assert (answer.width, answer.height) == (64, 48)
    assert grpc_stub.GetDetectStatus(messages.GetDetectStatusRequest(), metadata=KEY).lag == 3
    assert "person" in grpc_stub.GetDetector(messages.GetDetectorRequest(), metadata=KEY).labels


def test_the_history_of_gpus_is_limited_to_an_hour(grpc_stub: Any) -> None:
    (gpu,) = grpc_stub.ListGpus(messages.ListGpusRequest(minutes=60), metadata=KEY).gpus
    assert gpu.name == "a GPU"
    with pytest.raises(grpc.RpcError) as refused:
        grpc_stub.ListGpus(messages.ListGpusRequest(minutes=61), metadata=KEY)
    assert problem_of(cast(grpc.aio.AioRpcError, refused.value)).reason == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("image", "kind", "reason"),
    [
        (b"cut", Invalid, "TRUNCATED"),
        (b"crash", Invalid, "CHILD_CRASHED"),
        (b"slow", Unavailable, "CHILD_HUNG"),
        (b"odd", Internal, "DETECTOR_FAILED"),
        (b"", Invalid, "BAD_REQUEST"),
    ],
)
def test_failures_arrive_with_kind_and_reason(
    grpc_stub: Any, image: bytes, kind: type[Problem], reason: str
) -> None:
    refused = problem(grpc_stub, image)
    assert type(refused) is kind
    assert refused.reason == reason
    assert "/srv" not in refused.message


def test_a_call_without_a_valid_key_is_refused(grpc_stub: Any) -> None:
    assert isinstance(problem(grpc_stub, b"person", ()), Unauthenticated)
    assert problem(grpc_stub, b"person", (("x-api-key", "bad"),)).reason == "BAD_API_KEY"

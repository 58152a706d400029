"""Problems as gRPC statuses."""

from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from mesh.problems import Exhausted
from mesh.rpc import status_of


def test_a_problem_that_says_when_to_try_again_has_a_retry_info() -> None:
    status = status_of(Exhausted("too often", "TOO_OFTEN", retry_after_seconds="1.500"))
    info, retry = ErrorInfo(), RetryInfo()
    first, second = status.details
    assert first.Unpack(info)
    assert info.metadata == {"retry_after_seconds": "1.500"}
    assert second.Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert len(status_of(Exhausted("full", "FULL")).details) == 1

"""When a server gets requests, and which failures count."""

from detect_svc.detectors.circuit_breaker import CircuitBreaker
from detect_svc.detectors.server_pool import BACKOFF


def closed() -> CircuitBreaker:
    breaker = CircuitBreaker()
    breaker.record_probe(succeeded=True)
    breaker.record_success()
    return breaker


def test_it_starts_open_and_closes_after_a_probe_and_a_request_succeeded() -> None:
    breaker = CircuitBreaker()
    assert breaker.state.name == "OPEN"
    breaker.record_probe(succeeded=True)
    assert breaker.state.name == "HALF_OPEN"
    breaker.record_success()
    assert breaker.state.name == "CLOSED"
    breaker.record_probe(succeeded=True)
    assert breaker.state.name == "CLOSED"


def test_the_first_failure_opens_it_and_all_requests_in_flight_count_as_one() -> None:
    breaker = closed()
    assert breaker.failures == 0
    for _ in range(17):
        breaker.record_failure()
        assert (breaker.state.name, breaker.failures) == ("OPEN", 1)


def test_a_success_while_open_does_not_close_it() -> None:
    breaker = closed()
    breaker.record_failure()
    breaker.record_success()
    assert breaker.state.name == "OPEN"


def test_pauses_grow_while_probes_fail_up_to_a_bound() -> None:
    breaker = CircuitBreaker()
    pauses = []
    for failures in range(1, 101):
        breaker.record_probe(succeeded=False)
        assert breaker.failures == failures
        pauses.append(BACKOFF.pause(breaker.failures))
    assert BACKOFF.first / 2 <= pauses[0] < pauses[-1] <= BACKOFF.longest


def test_failures_add_up_over_successful_probes_until_a_request_succeeds() -> None:
    breaker = closed()
    for failures in range(1, 5):
        breaker.record_failure()
        assert breaker.failures == failures
        breaker.record_probe(succeeded=True)
    breaker.record_success()
    breaker.record_failure()
    assert breaker.failures == 1


def test_a_failed_probe_opens_a_closed_one() -> None:
    breaker = closed()
    breaker.record_probe(succeeded=False)
    assert breaker.state.name == "OPEN"

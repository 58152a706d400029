"""When a server is asked, and for how long it is left alone."""

from detect_svc.detectors.circuit_breaker import LONGEST_SECONDS, SHORTEST_SECONDS, CircuitBreaker


def closed() -> CircuitBreaker:
    breaker = CircuitBreaker()
    breaker.look(well=True)
    breaker.succeed()
    return breaker


def test_it_begins_open_and_a_good_look_is_a_trial_until_a_request_succeeds() -> None:
    breaker = CircuitBreaker()
    assert breaker.state.name == "OPEN"
    breaker.look(well=True)
    assert breaker.state.name == "TRIAL"
    breaker.succeed()
    assert breaker.state.name == "CLOSED"
    breaker.look(well=True)
    assert breaker.state.name == "CLOSED"


def test_the_first_failure_opens_it_and_those_under_way_count_for_one() -> None:
    breaker = closed()
    breaker.fail()
    pause = breaker.pause
    for _ in range(16):
        breaker.fail()
    assert (breaker.state.name, breaker.pause) == ("OPEN", pause)
    assert pause > SHORTEST_SECONDS


def test_a_late_answer_does_not_close_it() -> None:
    breaker = closed()
    breaker.fail()
    breaker.succeed()
    assert breaker.state.name == "OPEN"


def test_pauses_grow_while_looks_fail_up_to_a_bound() -> None:
    breaker = CircuitBreaker()
    pauses = []
    for _ in range(100):
        breaker.look(well=False)
        pauses.append(breaker.pause)
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] == LONGEST_SECONDS


def test_looking_well_and_failing_makes_pauses_grow_too_until_a_request_succeeds() -> None:
    breaker = closed()
    pauses = []
    for _ in range(4):
        breaker.fail()
        pauses.append(breaker.pause)
        breaker.look(well=True)
    assert pauses == sorted(set(pauses))
    breaker.succeed()
    breaker.fail()
    assert breaker.pause == pauses[0]


def test_a_bad_look_at_one_that_answers_opens_it() -> None:
    breaker = closed()
    breaker.look(well=False)
    assert breaker.state.name == "OPEN"

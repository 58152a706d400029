from reason_svc.backoff import Backoff


def test_pauses_double_up_to_a_bound_and_start_over_when_it_worked() -> None:
    backoff = Backoff(first=1, most=5)
    pauses = [backoff.failed() for _ in range(6)]
    for pause, whole in zip(pauses, (1, 2, 4, 5, 5, 5), strict=True):
        assert whole / 2 <= pause <= whole
    assert backoff.failures == 6
    backoff.worked()
    assert backoff.failures == 0
    assert backoff.failed() <= 1


def test_two_that_fail_together_do_not_come_back_together() -> None:
    assert len({Backoff(first=1, most=5).failed() for _ in range(20)}) > 1

"""Retries and their pauses."""

import pytest
from prometheus_client import REGISTRY, generate_latest
from structlog.testing import capture_logs

from mesh.problems import Invalid, Unavailable
from mesh.retry import Backoff, retry

QUICK = Backoff(0.001, 0.002)


def test_pauses_double_up_to_the_longest_and_lose_at_most_half(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(0.5, 3.0)
    for share in (0.5, 1.0):
        monkeypatch.setattr(
            "mesh.retry.random.uniform", lambda low, high, share=share: low if share < 1 else high
        )
        assert [backoff.pause(failures) for failures in (1, 2, 3, 4, 5000)] == [
            share * pause for pause in (0.5, 1.0, 2.0, 3.0, 3.0)
        ]


@pytest.mark.parametrize("error", [Unavailable("away", "AWAY"), OSError("disk full")])
async def test_what_may_work_later_is_repeated_until_it_succeeds(error: Exception) -> None:
    failures = iter([error] * 20)

    async def work() -> str:
        for failure in failures:
            raise failure
        return "done"

    assert await retry(work, "testing", backoff=QUICK) == "done"


@pytest.mark.parametrize("error", [Invalid("bad", "BAD"), KeyError("a bug")])
async def test_what_cannot_work_later_is_raised_at_once(error: Exception) -> None:
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        await retry(work, "testing", backoff=QUICK)
    assert calls == 1


async def test_each_failure_is_logged_once_and_adds_no_metric() -> None:
    failures = iter([OSError("disk full")] * 2)

    async def work() -> None:
        for failure in failures:
            raise failure

    with capture_logs() as logs:
        await retry(work, "testing", backoff=QUICK)
    assert [(entry["event"], entry["doing"]) for entry in logs] == [("will retry", "testing")] * 2
    assert b"stamina" not in generate_latest(REGISTRY)

"""The health of an LLM server, by regular probes and by the outcomes of assessments."""

import asyncio
import contextlib
from datetime import UTC, datetime

import structlog

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.language_models.responses import DROPPED, UNREACHABLE
from reason_svc.language_models.servers import Get, LlmServer, probe_server
from reason_svc.language_models.url import LlmEndpoint
from reason_svc.reasoner import ReasonerReadiness

log = structlog.get_logger(__name__)

PROBE_SECONDS = 10.0
# Seconds between probes while the server is away, and while it is not.
AWAY_SECONDS, READY_SECONDS = 1.0, 30.0


class LlmHealth:
    """Knows the server as of its last successful probe, and since when it is in which state.

    The outcome of a probe is valid until the next one. A failed assessment counts until one succeeds, or
    until the server was away in between. A server that drops a connection is away until it has answered a
    probe: it may have ended, and a proxy may still accept connections in its place.
    """

    def __init__(self, get: Get, endpoint: LlmEndpoint) -> None:
        self._get, self._endpoint = get, endpoint
        self._last_seen: LlmServer | None = None
        self._probe_problem: Problem | None = Unavailable(
            "the LLM server has not been probed yet", UNREACHABLE
        )
        self._failure: Problem | None = None
        # Counts how often the server was replaced: by one with other properties, or while it was away.
        self.changes = 0
        self._was_away = True
        self._probe_wanted = asyncio.Event()
        self.state = ReasonerReadiness.UNREACHABLE
        self.detail = self._probe_problem.message
        self.since = datetime.now(UTC)

    @property
    def last_seen(self) -> LlmServer | None:
        """The server as of the last probe that succeeded."""
        return self._last_seen

    def server(self) -> LlmServer:
        """Returns the server if it accepts requests. Raises the problem of the last probe otherwise."""
        if self._probe_problem or not self._last_seen:
            problem = self._probe_problem or Unavailable(
                "the LLM server has not been probed yet", UNREACHABLE
            )
            raise type(problem)(problem.message, problem.reason)
        return self._last_seen

    def record_assessment(self, problem: Problem | None) -> None:
        """Records the outcome of an assessment; None means success. A failure causes a probe at once."""
        if problem is None and self._last_seen:
            self._probe_problem = None  # a busy server may have been too slow for a probe
        if isinstance(problem, Unavailable):
            self._probe_problem, self._was_away = problem, True
        elif not isinstance(problem, Exhausted):
            self._failure = problem
            if problem and problem.reason == DROPPED:
                self._probe_problem, self._was_away = _as_unreachable(problem), True
        if problem:
            self._probe_wanted.set()
        self._update_state()

    async def probe(self) -> None:
        """Probes the server now. Never raises."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                server = await probe_server(self._get, self._endpoint)
            if self._was_away or server != self._last_seen:
                self.changes += 1
            self._last_seen, self._was_away = server, False
            self._probe_problem = None
        except Problem as problem:
            is_busy = isinstance(problem, Exhausted) and self._last_seen
            self._probe_problem = None if is_busy else _as_unreachable(problem)
        except TimeoutError:
            self._probe_problem = Unavailable(
                f"the LLM server did not respond within {PROBE_SECONDS:g} s", UNREACHABLE
            )
        except Exception:  # without further probes, the server would be considered away for ever
            log.exception("unexpected error while probing the LLM server")
            self._probe_problem = Internal("unexpected error while probing the LLM server", "LLM_FAILED")
        if isinstance(self._probe_problem, Unavailable):
            self._failure, self._was_away = None, True
        self._update_state()

    async def run(self) -> None:
        """Probes until cancelled: every second while the server is away, else every 30 s and after a failed
        assessment."""
        while True:
            # This pause makes one probe of several failed assessments, and bounds the rate of probes.
            await asyncio.sleep(AWAY_SECONDS)
            if not self._probe_problem:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(READY_SECONDS):
                        await self._probe_wanted.wait()
            self._probe_wanted.clear()
            await self.probe()

    def _update_state(self) -> None:
        problem = self._probe_problem or self._failure
        state, detail = _state_of(problem), problem.message if problem else ""
        if state is not self.state:
            self.since = datetime.now(UTC)
            if problem:
                log.warning("LLM server not ready", state=state.value, reason=problem.reason, detail=detail)
            elif server := self._last_seen:
                log.info("LLM server ready", kind=server.kind, slots=server.slots, context=server.context)
        self.state, self.detail = state, detail


def _as_unreachable(problem: Problem) -> Problem:
    """A dropped connection as what it says of the server; other problems as they are."""
    return Unavailable(problem.message, UNREACHABLE) if problem.reason == DROPPED else problem


def _state_of(problem: Problem | None) -> ReasonerReadiness:
    if problem is None:
        return ReasonerReadiness.READY
    if not isinstance(problem, Unavailable | Exhausted):
        return ReasonerReadiness.FAILING
    is_loading = problem.reason == "LLM_LOADING"
    return ReasonerReadiness.LOADING if is_loading else ReasonerReadiness.UNREACHABLE

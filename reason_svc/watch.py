"""How an LLM server is doing: looked at now and then, and whenever a judgement went wrong."""

import asyncio
import contextlib
from datetime import UTC, datetime

import structlog

from mesh.problems import Exhausted, Internal, Problem, Unavailable
from reason_svc.address import Address
from reason_svc.reasoner import State
from reason_svc.servers import Get, Server, look

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
PAUSE_AWAY, PAUSE_READY = 1.0, 30.0


class Watch:
    """Knows the server as it was last seen, and since when it is in which state.

    What a look finds counts until the next look; a judgement that failed counts until one succeeds, or until
    the server was away in between.
    """

    def __init__(
        self, get: Get, address: Address, away: float = PAUSE_AWAY, ready: float = PAUSE_READY
    ) -> None:
        self._get, self._address = get, address
        self._away, self._ready = away, ready
        self._seen: Server | None = None
        self._absent: Problem | None = Unavailable("the LLM server was not asked yet", "LLM_UNREACHABLE")
        self._failure: Problem | None = None
        self._doubt = asyncio.Event()
        self.state, self.detail, self.since = State.UNREACHABLE, self._absent.message, datetime.now(UTC)

    @property
    def seen(self) -> Server | None:
        """As of the last look that succeeded."""
        return self._seen

    def server(self) -> Server:
        """The server, if it can be asked; raises what the last look met."""
        if self._absent or not self._seen:
            problem = self._absent or Unavailable("the LLM server is not known yet", "LLM_UNREACHABLE")
            raise type(problem)(problem.message, problem.reason)
        return self._seen

    def judged(self, problem: Problem | None) -> None:
        """How the last judgement went; None: well. One that went wrong is looked into at once."""
        if problem is None and self._seen:
            self._absent = None  # a busy server may have been too slow for a look
        if isinstance(problem, Unavailable):
            self._absent = problem
        elif not isinstance(problem, Exhausted):
            self._failure = problem
        if problem:
            self._doubt.set()
        self._settle()

    async def look(self) -> None:
        """Asks the server now."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._seen = await look(self._get, self._address)
            self._absent = None
        except Problem as problem:
            self._absent = None if isinstance(problem, Exhausted) and self._seen else problem
        except TimeoutError:
            self._absent = Unavailable(
                f"the LLM server says nothing for {LOOK_SECONDS:g} s", "LLM_UNREACHABLE"
            )
        except Exception:  # who no longer looks would never see the server come back
            log.exception("looking at the LLM server broke")
            self._absent = Internal("looking at the LLM server broke", "LLM_FAILED")
        if isinstance(self._absent, Unavailable):
            self._failure = None
        self._settle()

    async def run(self) -> None:
        """Looks until cancelled: often while the server is away, now and then while it is not."""
        while True:
            # Those that went wrong together are one doubt, and what always fails is not asked all day.
            await asyncio.sleep(self._away)
            if not self._absent:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._ready):
                        await self._doubt.wait()
            self._doubt.clear()
            await self.look()

    def _settle(self) -> None:
        problem = self._absent or self._failure
        state, detail = _state_of(problem), problem.message if problem else ""
        if state is not self.state:
            self.since = datetime.now(UTC)
            if problem:
                log.warning("the LLM does not judge", state=state.value, reason=problem.reason, detail=detail)
            elif self._seen:
                seen = self._seen
                log.info("the LLM judges", kind=seen.kind, slots=seen.slots, context=seen.context)
        self.state, self.detail = state, detail


def _state_of(problem: Problem | None) -> State:
    if problem is None:
        return State.READY
    if not isinstance(problem, Unavailable | Exhausted):
        return State.FAILING
    return State.LOADING if problem.reason == "LLM_LOADING" else State.UNREACHABLE

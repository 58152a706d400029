"""A model that fails at first: how often, its words for the event decide, in whatever order they come."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from reason_svc.address import Kind
from tests.support.scripted_llm import ScriptedLlm, says, scripted

STUBBORN = "stubborn"  # a second model, which never answers
MOST_FAILURES = 2
# Each answer takes so long, that a kill may come in the middle of it.
SECONDS = 0.3


class FitfulModel:
    """A server of its own: it outlives every kill of Lares. `failed` counts the attempts that it spoilt."""

    def __init__(self, server: ScriptedLlm) -> None:
        self._server = server
        self._tries: Counter[tuple[str, str]] = Counter()
        self.failed = 0
        self.url = server.url()

    @property
    def judging(self) -> int:
        """How many judgements it has in hand."""
        return self._server.judging

    async def turn(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages, model = body["messages"], str(body["model"])
        told = messages[1]["content"]
        number = int(hashlib.sha256(told.encode()).hexdigest(), 16)
        anew = len(messages) == 2  # else it is asked to mend its answer, within the same attempt
        self._tries[model, told] += anew
        await asyncio.sleep(SECONDS)
        if model == STUBBORN or self._tries[model, told] <= number % (MOST_FAILURES + 1):
            self.failed += anew
            return await says("I would rather not say.")(request)
        reasons = [{"text": "as it was told", "detections": [1]}]
        answer = {"reasons": reasons, "score": number % 101, "summary": f"Event {number % 997}."}
        return await says(json.dumps(answer))(request)


@asynccontextmanager
async def fitful_model() -> AsyncIterator[FitfulModel]:
    async with scripted(Kind.VLLM) as server:
        server.others = [STUBBORN]
        model = FitfulModel(server)
        server.always = model.turn
        yield model

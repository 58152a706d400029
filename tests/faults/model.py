"""A language model whose first attempts at an event fail. The event alone decides how many, so that the order
of events does not matter."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from reason_svc.language_models.url import LlmServerKind
from tests.support.scripted_llm import ScriptedLlm, says, scripted

SILENT = "silent"  # a second model, which never gives a usable answer
MOST_FAILURES = 2
# Long enough for a kill to come in the middle of an answer.
SECONDS = 0.3


class FlakyModel:
    """Runs in the process of the tests, so it outlives every kill of Lares. `failed_attempts` counts the
    attempts that it answered badly."""

    def __init__(self, server: ScriptedLlm) -> None:
        self._server = server
        self._tries: Counter[tuple[str, str]] = Counter()
        self.failed_attempts = 0
        self.url = server.url()

    @property
    def assessing(self) -> int:
        """How many events it is assessing now."""
        return self._server.assessing

    async def turn(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages, model = body["messages"], str(body["model"])
        told = messages[1]["content"]
        number = int(hashlib.sha256(told.encode()).hexdigest(), 16)
        anew = len(messages) == 2  # otherwise it is asked to correct its answer, within the same attempt
        self._tries[model, told] += anew
        await asyncio.sleep(SECONDS)
        if model == SILENT or self._tries[model, told] <= number % (MOST_FAILURES + 1):
            self.failed_attempts += anew
            return await says("I would rather not say.")(request)
        reasons = [{"text": "as it was told", "detections": [1]}]
        answer = {"reasons": reasons, "score": number % 101, "summary": f"Event {number % 997}."}
        return await says(json.dumps(answer))(request)


@asynccontextmanager
async def flaky_model() -> AsyncIterator[FlakyModel]:
    async with scripted(LlmServerKind.VLLM) as server:
        server.others = [SILENT]
        model = FlakyModel(server)
        server.always = model.turn
        yield model

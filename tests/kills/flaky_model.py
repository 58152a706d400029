"""A language model that fails the first attempts at an event.

How many depends only on the event, so the order of events does not matter.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from reason_svc.language_models.url import LlmServerKind
from tests.support.scripted_llm import ScriptedLlm, says, scripted

SILENT = "silent"  # a second model, which never returns a usable answer
MAX_FAILURES = 2
# Long enough that a kill can interrupt an answer.
ANSWER_SECONDS = 0.3


class FlakyModel:
    """Runs in the process of the tests, so it survives every kill of Lares.

    `failed_attempts` counts the attempts for which it returned no usable answer.
    """

    def __init__(self, server: ScriptedLlm) -> None:
        self._server = server
        self._attempts: Counter[tuple[str, str]] = Counter()
        self.failed_attempts = 0
        self.url = server.url()

    @property
    def assessing(self) -> int:
        """The number of events that it is assessing now."""
        return self._server.assessing

    async def turn(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages, model = body["messages"], str(body["model"])
        prompt = messages[1]["content"]
        number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
        # Otherwise it is asked to correct its answer, within the same attempt.
        new_attempt = len(messages) == 2
        self._attempts[model, prompt] += new_attempt
        await asyncio.sleep(ANSWER_SECONDS)
        if model == SILENT or self._attempts[model, prompt] <= number % (MAX_FAILURES + 1):
            self.failed_attempts += new_attempt
            return await says("I would rather not say.")(request)
        reasons = [{"text": "as the prompt says", "detections": [1]}]
        answer = {"reasons": reasons, "score": number % 101, "summary": f"Event {number % 997}."}
        return await says(json.dumps(answer))(request)


@asynccontextmanager
async def flaky_model() -> AsyncIterator[FlakyModel]:
    async with scripted(LlmServerKind.VLLM) as server:
        server.others = [SILENT]
        model = FlakyModel(server)
        server.always = model.turn
        yield model

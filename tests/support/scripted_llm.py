"""A fake LLM server that behaves like llama.cpp, trtllm-serve, vLLM, Ollama or another, with their faults.

It records the requests and gives prepared answers.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from reason_svc.language_models.url import LlmServerKind
from tests.support.trtllm_request import ChatRequest

KEY = "a-secret-key"
MODEL = "scripted"
GOOD = {
    "reasons": [{"text": "something moved", "detections": [1]}],
    "score": 55,
    "summary": "Something moved at the door.",
}
OWNERS = {
    LlmServerKind.LLAMA_CPP: "llamacpp",
    LlmServerKind.TRTLLM: "tensorrt_llm",
    LlmServerKind.VLLM: "vllm",
    LlmServerKind.OLLAMA: "library",
    LlmServerKind.OPENAI: "somebody",
}
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}

Turn = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedLlm:
    """Each request to the model is answered by the next of `turns`, or by `always` if there is none, or well.

    A word is one token, so `context` is a number of words. While `loading` is set, every request is answered
    with 503; while `silent` is set, none is answered.
    """

    def __init__(
        self, kind: LlmServerKind = LlmServerKind.LLAMA_CPP, model: str = MODEL, context: int = 8192
    ) -> None:
        self.kind, self.model, self.context = kind, model, context
        self.others: list[str] = []  # other models that it lists
        self.slots = 3
        self.key = KEY  # the one that it accepts
        self.loading = self.silent = False
        self.formats: set[str] | None = None  # those that it accepts; None means all
        self.refusal: tuple[int, object] = (
            400,
            {"error": {"message": "This response_format is unavailable"}},
        )
        self.turns: deque[Turn] = deque()
        self.always: Turn | None = None
        self.asked: list[dict[str, Any]] = []
        self.assessing = self.refused = 0
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self._runner: web.AppRunner | None = None

    def url(self, **options: object) -> str:
        named = "".join(f"&{name}={value}" for name, value in options.items())
        scheme = "https" if self.tls else "http"
        return f"openai+{scheme}://:{KEY}@127.0.0.1:{self.port}/v1?model={self.model}{named}"

    async def start(self) -> None:
        """Starts listening, on the same port as before."""
        app = web.Application(middlewares=[self._front])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.kind is LlmServerKind.LLAMA_CPP:
            app.router.add_get("/props", self._props)
            app.router.add_post("/tokenize", self._tokenize)
        if self.kind is LlmServerKind.OLLAMA:
            app.router.add_get("/api/version", self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _front(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            self.refused += 1
            return answered(401, {"error": {"message": f"no such key: {KEY}"}})
        if self.silent:
            return await hangs(request)
        if self.loading:
            return answered(503, LOADING)
        answer: web.StreamResponse = await handler(request)
        if self.kind is LlmServerKind.LLAMA_CPP:
            answer.headers["Server"] = "llama.cpp"
        return answer

    async def _models(self, request: web.Request) -> web.Response:
        cards: list[dict[str, Any]] = [
            {"id": model, "object": "model", "owned_by": OWNERS[self.kind]}
            for model in (self.model, *self.others)
        ]
        if self.kind is LlmServerKind.VLLM:
            for card in cards:
                card["max_model_len"] = self.context
        return answered(200, {"object": "list", "data": cards})

    async def _props(self, request: web.Request) -> web.Response:
        settings = {"n_ctx": self.context}
        return answered(200, {"total_slots": self.slots, "default_generation_settings": settings})

    async def _version(self, request: web.Request) -> web.Response:
        return answered(200, {"version": "0.13.0"})

    async def _tokenize(self, request: web.Request) -> web.Response:
        text = (await request.json())["content"]
        return answered(200, {"tokens": list(range(len(text.split())))})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.assessing += 1
        try:
            if self.kind is LlmServerKind.TRTLLM:
                try:
                    ChatRequest.model_validate(body)
                except ValidationError as error:
                    return answered(400, {"error": str(error)})
            if self.formats is not None and answer_format(body) not in self.formats:
                return answered(*self.refusal)
            words = sum(len(message["content"].split()) for message in body["messages"])
            if words + body["max_tokens"] > self.context:
                return too_long(self.kind)
            turn = self.turns.popleft() if self.turns else self.always or says(json.dumps(GOOD))
            return await turn(request)
        finally:
            self.assessing -= 1


def answer_format(body: dict[str, Any]) -> str:
    """Returns the type of answer that a request asks for."""
    return str(body.get("response_format", {"type": "text"})["type"])


@asynccontextmanager
async def scripted(
    kind: LlmServerKind = LlmServerKind.LLAMA_CPP, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[ScriptedLlm]:
    server = ScriptedLlm(kind, **options)
    server.tls = tls
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def answered(status: int, body: object) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")


def too_long(kind: LlmServerKind) -> web.Response:
    if kind is LlmServerKind.LLAMA_CPP:
        error = {"code": 400, "message": "request exceeds", "type": "exceed_context_size_error"}
        return answered(400, {"error": error})
    message = "This model's maximum context length is 512 tokens"
    return answered(400, {"object": "error", "message": message, "type": "BadRequestError", "code": 400})


def says(content: object, finish: str = "stop", **more: object) -> Turn:
    """Completes with `content`, for 100 prompt tokens, of which 60 were cached, and 10 completion tokens."""

    async def turn(request: web.Request) -> web.Response:
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 60},
        }
        return answered(200, {"object": "chat.completion", "choices": [choice], "usage": usage, **more})

    return turn


def replies(status: int, body: object) -> Turn:
    async def turn(request: web.Request) -> web.Response:
        return answered(status, body)

    return turn


async def redirects(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": str(request.rel_url)})


def raw(content: bytes) -> Turn:
    async def turn(request: web.Request) -> web.Response:
        return web.Response(body=content)

    return turn


async def hangs(request: web.Request) -> web.StreamResponse:
    return await asyncio.Future()


async def drips(request: web.Request) -> web.StreamResponse:
    """Sends a byte now and then, without an end."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b" ")
        await asyncio.sleep(0.05)


async def pours(request: web.Request) -> web.StreamResponse:
    """Sends more than a client reads."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(2000):
        await answer.write(b"x" * 2**16)
    return answer


async def drops(request: web.Request) -> web.StreamResponse:
    """Closes the connection without a response."""
    assert request.transport
    request.transport.abort()
    return await asyncio.Future()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """Closes the connection in the middle of the response."""
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"choices": [')
    assert request.transport
    request.transport.abort()
    return answer

"""One request of a camera, and its answer, as ASGI has them."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from mesh.problems import Invalid, NotFound

CAMERA_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_FILE_NAME = 1024

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The connection was lost before the whole body arrived."""


class RequestBody(AsyncIterator[bytes]):
    """The pieces of the body, none of them empty."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = self.ended = False

    async def __anext__(self) -> bytes:
        while not self.ended:
            self.begun = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self.ended = not message.get("more_body", False)
            if message.get("body"):
                return bytes(message["body"])
        raise StopAsyncIteration


class PushRequest:
    """`query` and the headers may hold a key: neither is logged, nor is `path` part of a span."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.address: str = (scope.get("client") or ("",))[0]
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.body = RequestBody(receive)
        self._query: bytes = scope.get("query_string", b"")
        # As it was sent, percent-encoded.
        self.target_path = scope["raw_path"].decode("latin-1")
        self.target = self.target_path + (f"?{self._query.decode('latin-1')}" if self._query else "")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self._query.decode("latin-1")))

    @property
    def camera_id(self) -> str:
        """Raises NotFound."""
        ingest, _, rest = self.path.removeprefix("/").partition("/")
        camera_id = rest.partition("/")[0]
        if ingest != "ingest" or not CAMERA_ID.fullmatch(camera_id):
            raise NotFound("media are pushed to /ingest/{camera's id}", "NO_SUCH_PATH")
        return camera_id

    @property
    def file_name(self) -> str:
        """The end of the path after the camera's id; empty if there is none."""
        parts = self.path.removeprefix("/").split("/")
        return parts[-1][:MAX_FILE_NAME] if len(parts) > 2 else ""

    @property
    def size(self) -> int | None:
        """What is declared, if it is. Raises Invalid."""
        declared = self.headers.get("content-length")
        if declared is None:
            return None
        if not declared.isdecimal():
            raise Invalid("Content-Length is not a number", "BAD_REQUEST")
        return int(declared)


async def respond(send: Send, status: int, content: object, headers: Iterable[tuple[str, str]]) -> None:
    body = json.dumps(content).encode()
    lines = [("content-type", "application/json"), ("content-length", str(len(body))), *headers]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in lines],
        }
    )
    await send({"type": "http.response.body", "body": body})

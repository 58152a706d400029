"""Takes what cameras push, and answers with the ids of the media."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import structlog
from opentelemetry.trace import StatusCode

from ingest_svc.receiving.push.authentication import PushAuthenticator
from ingest_svc.receiving.push.multipart import (
    NOTES,
    MultipartReader,
    boundary_of,
    file_name_of,
    media_type_of,
)
from ingest_svc.receiving.push.request import ClientGone, PushRequest, Receive, Scope, Send, respond
from ingest_svc.receiving.uploads import UndeclaredUpload
from ingest_svc.rejection import RejectReason
from mesh.permissions import UPLOAD
from mesh.problems import (
    Conflict,
    Denied,
    Exhausted,
    Internal,
    Invalid,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
)
from mesh.security import caller
from mesh.telemetry.spans import request_span
from mesh.telemetry.trace_context import outgoing_headers

log = structlog.get_logger(__name__)

METHODS = ("POST", "PUT")
MAX_PARTS = 256
# The longest that may pass between two media of a form, with all that is skipped there.
BETWEEN_SECONDS = 60.0
# What is read of a body after its request was refused, so that the camera sees the answer: cameras that
# send their password only when asked for it send the whole body before.
DRAINED_BYTES, DRAIN_SECONDS = 2**20, 5.0
RETRY_SECONDS = 5

STATUS: dict[type[Problem], int] = {
    Invalid: 422,
    Unauthenticated: 401,
    Denied: 403,
    NotFound: 404,
    Conflict: 409,
    Exhausted: 429,
    Unavailable: 503,
}
STATUS_OF_REASON: dict[str, int] = {
    "BAD_REQUEST": 400,
    "BAD_MULTIPART": 400,
    "BAD_METHOD": 405,
    "CONTENT_ENCODING": 415,
    RejectReason.TOO_MANY_BYTES: 413,
    RejectReason.NOT_AN_IMAGE: 415,
    RejectReason.UNSUPPORTED_VIDEO: 415,
    RejectReason.CLIPS_NOT_INSTALLED: 415,
}


class PushedMedia(Protocol):
    """The part of ingest_svc.receiving.uploads.Uploads that this module uses."""

    def admit(self, camera_id: str) -> object: ...

    async def receive_undeclared(
        self, upload: UndeclaredUpload, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> str: ...


class Taken:
    """What became of the media of one request."""

    def __init__(self) -> None:
        self.media: list[str] = []
        self.rejected: list[tuple[str, Invalid]] = []

    def require_any(self) -> None:
        """Raises the first rejection if nothing was taken."""
        if self.rejected and not self.media:
            raise self.rejected[0][1]

    def content(self) -> dict[str, object]:
        content: dict[str, object] = {"media": self.media}
        if self.rejected:
            content["rejected"] = [{"fileName": name} | _error(problem) for name, problem in self.rejected]
        return content


class PushApplication:
    def __init__(self, uploads: PushedMedia, authenticator: PushAuthenticator) -> None:
        self._uploads, self._authenticator = uploads, authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = PushRequest(scope, receive)
        with request_span({}, f"{request.method} /ingest", {"http.request.method": request.method}) as span:
            try:
                taken = await self._take(request)
            except ClientGone:
                return
            except Exception as error:
                problem = _visible(error)
                status = _status(problem)
                headers = [*self._headers(problem), *await _rest_of(request)]
                await respond(send, status, {"errors": [_error(problem)]}, headers)
            else:
                status = 200
                await respond(send, status, taken.content(), await _rest_of(request))
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(StatusCode.ERROR)

    def _headers(self, problem: Problem) -> list[tuple[str, str]]:
        if isinstance(problem, Unauthenticated):
            return [("www-authenticate", value) for value in self._authenticator.challenges(problem)]
        if problem.reason == "BAD_METHOD":
            return [("allow", ", ".join(METHODS))]
        return [("retry-after", str(RETRY_SECONDS))] if problem.retryable else []

    async def _take(self, request: PushRequest) -> Taken:
        if request.method not in METHODS:
            raise Invalid("media are pushed by POST or PUT", "BAD_METHOD")
        camera_id = request.camera_id
        pushing = await self._authenticator.authenticate(request)
        caller.set(pushing)
        pushing.require(UPLOAD)
        self._uploads.admit(camera_id)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Invalid("compressed bodies are not accepted", "CONTENT_ENCODING")
        taken = Taken()
        content_type = request.headers.get("content-type", "")
        if boundary := boundary_of(content_type):
            await self._take_parts(camera_id, MultipartReader(boundary, request.body), taken)
        elif not _is_note(content_type):
            name = file_name_of(request.headers.get("content-disposition", "")) or request.file_name
            await self._take_one(UndeclaredUpload(camera_id, name, request.size), request.body, taken)
        taken.require_any()
        return taken

    async def _take_parts(self, camera_id: str, form: MultipartReader, taken: Taken) -> None:
        for _ in range(MAX_PARTS):
            try:
                async with asyncio.timeout(BETWEEN_SECONDS):
                    part = await form.next_part()
            except TimeoutError:
                detail = f"no picture arrived for {BETWEEN_SECONDS:g} s"
                raise Unavailable(detail, "UPLOAD_STALLED") from None
            if part is None:
                return
            if part.may_be_media:
                upload = UndeclaredUpload(camera_id, part.file_name, None)
                await self._take_one(upload, form.chunks(), taken)
        raise Invalid(f"more than {MAX_PARTS} parts in one form", "TOO_MANY_PARTS")

    async def _take_one(self, upload: UndeclaredUpload, chunks: AsyncIterator[bytes], taken: Taken) -> None:
        try:
            taken.media.append(await self._uploads.receive_undeclared(upload, chunks, outgoing_headers()))
        except Invalid as rejection:
            taken.rejected.append((upload.file_name, rejection))


def _is_note(content_type: str) -> bool:
    """Whether the body is what a camera says of its alarm. A form's type is what curl says of any content."""
    kind = media_type_of(content_type)
    return kind != "application/x-www-form-urlencoded" and NOTES.match(kind) is not None


async def _rest_of(request: PushRequest) -> list[tuple[str, str]]:
    """Reads what is left of the body, within bounds. Returns the headers for a connection that must end,
    because there is more."""
    if request.body.ended or await _drained(request):
        return []
    return [("connection", "close")]


async def _drained(request: PushRequest) -> bool:
    if not request.body.begun and request.headers.get("expect", "").lower() == "100-continue":
        return False
    left = DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for piece in request.body:
                left -= len(piece)
                if left < 0:
                    return False
    except (TimeoutError, ClientGone):
        return False
    return True


def _visible(error: Exception) -> Problem:
    if isinstance(error, Problem) and not isinstance(error, Internal):
        return error
    log.error("push failed", exc_info=error)
    return Internal("internal error", "INTERNAL")


def _status(problem: Problem) -> int:
    of_kind = (status for kind, status in STATUS.items() if isinstance(problem, kind))
    return STATUS_OF_REASON.get(problem.reason) or next(of_kind, 500)


def _error(problem: Problem) -> dict[str, object]:
    """In the form of the gateway's errors."""
    extensions: dict[str, object] = {"code": problem.code.name, "reason": problem.reason}
    if problem.metadata:
        extensions["metadata"] = problem.metadata
    return {"message": problem.message, "extensions": extensions}

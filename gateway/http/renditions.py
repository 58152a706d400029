"""Finds renditions for requests over HTTP, and says of those that are not made yet how far they are."""

from http import HTTPStatus

from google.protobuf.duration_pb2 import Duration
from starlette.responses import JSONResponse, Response

from gateway.errors import problem_response
from gateway.siblings import Siblings
from lares.store.v1.rendition_pb2 import (
    RENDITION_STATE_READY,
    RENDITION_STATE_WAITING,
    Rendition,
    RenditionKind,
)
from lares.store.v1.rendition_service_pb2 import RequestRenditionRequest
from mesh.blobs import Blobs
from mesh.problems import Conflict, Exhausted, NotFound
from mesh.rpc import call

# How long a request waits for what is being made.
WAIT_SECONDS = 5
# When to ask again for what is being made, and after somebody who has asked for too much.
RETRY_AFTER = {"retry-after": "1", "cache-control": "no-store"}


class RenditionFinder:
    def __init__(self, siblings: Siblings, blobs: Blobs) -> None:
        self._siblings, self._blobs = siblings, blobs

    async def find(self, kind: RenditionKind.ValueType, subject_id: str) -> Rendition | Response:
        """Returns a rendition that is ready, or the response while there is none. Raises NotFound if there is
        no such subject, if it can have no such rendition, or if its content is gone."""
        try:
            rendition = await self._request(kind, subject_id)
            if rendition.state == RENDITION_STATE_READY and not await self._exists(rendition):
                rendition = await self._request(kind, subject_id)  # it was evicted just now
                if rendition.state == RENDITION_STATE_READY:
                    await self._blobs.size(rendition.blob.sha256)
        except Conflict as problem:
            raise NotFound(problem.message, problem.reason) from None
        except Exhausted as problem:
            return problem_response(problem, headers=RETRY_AFTER)
        if rendition.state == RENDITION_STATE_READY:
            return rendition
        if rendition.state == RENDITION_STATE_WAITING:
            return _progress(rendition)
        failure = rendition.failure
        return problem_response(Conflict(failure.detail, failure.reason), HTTPStatus.UNPROCESSABLE_ENTITY)

    async def _request(self, kind: RenditionKind.ValueType, subject_id: str) -> Rendition:
        request = RequestRenditionRequest(
            kind=kind, subject_id=subject_id, wait=Duration(seconds=WAIT_SECONDS)
        )
        timeout = WAIT_SECONDS + 10.0
        return (await call(self._siblings.renditions.RequestRendition, request, timeout=timeout)).rendition

    async def _exists(self, rendition: Rendition) -> bool:
        try:
            await self._blobs.size(rendition.blob.sha256)
        except NotFound:
            return False
        return True


def _progress(rendition: Rendition) -> Response:
    """A last failure does not mean that it will not succeed."""
    body = {"state": "WAITING", "progress": round(rendition.progress, 3)}
    return JSONResponse(body, HTTPStatus.ACCEPTED, RETRY_AFTER)

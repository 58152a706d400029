"""Which files and contents the store already knows. ingest_svc itself remembers nothing across a restart."""

from collections.abc import Sequence
from typing import Protocol

import grpc
import structlog

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.messages import file_fingerprint
from lares.store.internal.v1.file_service_pb2 import ListKnownMediaRequest, ListUnknownFilesRequest
from lares.store.internal.v1.file_service_pb2_grpc import FileServiceStub
from mesh.problems import Problem
from mesh.retry import retry
from mesh.rpc import call

log = structlog.get_logger(__name__)

# The most files in one request.
PAGE = 1000
REQUEST_SECONDS = 30.0
# Photos wait for the answer whether their content is known.
MEDIA_SECONDS = 5.0


class KnownFiles(Protocol):
    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        """Those of at most PAGE files that the store has never recorded in this state, as media or as a
        rejection, whether deleted since or not."""

    async def media(self, media_ids: Sequence[str]) -> set[str]:
        """Those of at most PAGE media that the store has recorded, whether deleted since or not; none if it
        does not say so soon."""


class StoreKnownFiles:
    """Asks the store. `unknown` retries for as long as it is not available."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._store = FileServiceStub(store)

    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        request = ListUnknownFilesRequest(files=[file_fingerprint(file) for file in files])
        response = await retry(
            lambda: call(self._store.ListUnknownFiles, request, timeout=REQUEST_SECONDS, wait=True),
            "asking the store which files are unknown",
        )
        return [files[position] for position in response.unknown]

    async def media(self, media_ids: Sequence[str]) -> set[str]:
        request = ListKnownMediaRequest(media_ids=media_ids)
        try:
            response = await call(self._store.ListKnownMedia, request, timeout=MEDIA_SECONDS)
        except Problem as problem:
            # They are detected again, which costs time and changes nothing.
            log.warning("known content not asked for", photos=len(media_ids), error=problem.message)
            return set()
        return set(response.media_ids)

"""Which files the store already knows. ingest_svc itself remembers nothing across a restart."""

from collections.abc import Sequence
from typing import Protocol

import grpc

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.messages import file_fingerprint
from lares.store.internal.v1.file_service_pb2 import ListUnknownFilesRequest
from lares.store.internal.v1.file_service_pb2_grpc import FileServiceStub
from mesh.retry import retry
from mesh.rpc import call

# The most files in one request.
PAGE = 1000
REQUEST_SECONDS = 30.0


class KnownFiles(Protocol):
    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        """Those of at most PAGE files that the store has never recorded in this state, as media or as a
        rejection, whether deleted since or not."""


class StoreKnownFiles:
    """Asks the store, and retries for as long as it is not available."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._store = FileServiceStub(store)

    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        request = ListUnknownFilesRequest(files=[file_fingerprint(file) for file in files])
        response = await retry(
            lambda: call(self._store.ListUnknownFiles, request, timeout=REQUEST_SECONDS, wait=True),
            "asking the store which files are unknown",
        )
        return [files[position] for position in response.unknown]

"""What the store knows of files: ingest_svc itself remembers nothing across a restart."""

from collections.abc import Sequence

import grpc

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.messages import file_fingerprint
from ingest_svc.retry import until_done
from lares.store.internal.v1.file_service_pb2 import ListUnknownFilesRequest
from lares.store.internal.v1.file_service_pb2_grpc import FileServiceStub
from mesh.rpc import call

PAGE = 1000
ASK_SECONDS = 30.0


class Catalogue:
    """Waits as long as it takes for a store that is not up."""

    def __init__(self, store: grpc.aio.Channel) -> None:
        self._store = FileServiceStub(store)

    async def unknown(self, files: Sequence[Fingerprint]) -> list[Fingerprint]:
        """Those the store has never seen in this state, neither as media nor as a rejection, deleted or
        not. At most PAGE at once."""
        request = ListUnknownFilesRequest(files=[file_fingerprint(file) for file in files])
        answer = await until_done(
            lambda: call(self._store.ListUnknownFiles, request, timeout=ASK_SECONDS, wait=True),
            "asking the store what it knows",
        )
        return [files[position] for position in answer.unknown]

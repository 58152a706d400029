"""What tests that read the state of a running Lares need of it: of one process or of a cluster."""

from pathlib import Path
from typing import Any, Protocol

import grpc


class ReadableLares(Protocol):
    """`home` has its PostgreSQL, which must be an embedded one."""

    home: Path

    @property
    def key(self) -> str: ...

    @property
    def admin_kafka_options(self) -> dict[str, Any]: ...

    def grpc_channel(self) -> grpc.aio.Channel: ...

    async def graphql(self, query: str, **variables: Any) -> Any: ...

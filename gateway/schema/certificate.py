# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The certificates of the gateway's own process. Those of others are in their metrics."""

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info


@strawberry.type(description="A certificate of the gateway's process.")
class Certificate:
    name: str = strawberry.field(
        description="`clients`, `siblings` or `ca`; `files` and `renewal` stand for what is not used."
    )
    expires_at: Timestamp | None
    warning: str | None = strawberry.field(
        description="That it has expired, or will within 14 days, or why its files are not used; null if"
        " all is well."
    )


async def list_certificates(info: Info) -> list[Certificate]:
    tls = info.context.tls
    if tls is None:
        return []
    expiries, warnings = tls.now.expiries(), tls.warnings()
    found = []
    for name in dict.fromkeys((*expiries, *warnings)):
        expires_at = None
        if name in expiries:
            expires_at = Timestamp()
            expires_at.FromDatetime(expiries[name])
        found.append(Certificate(name=name, expires_at=expires_at, warning=warnings.get(name)))
    return found

"""Serves the newest events of Lares's own database as one would with FastAPI: SQLAlchemy's ORM on asyncpg, a
response model of pydantic, and API keys. The arguments are the database's URL and the port."""

import hashlib
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import uvicorn
from cachetools import TTLCache
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ARRAY, Text, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CONNECTIONS = 16
# As Lares does, it remembers a key for 3 s.
REMEMBERED_KEYS, REMEMBERED_SECONDS = 1024, 3.0


class Base(DeclarativeBase): ...


class Event(Base):
    """The columns that the response has, and no others."""

    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    status_number: Mapped[int] = mapped_column("status")
    revision: Mapped[int]
    sequence: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    closed: Mapped[bool]
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text))

    @property
    def status(self) -> "EventStatus":
        return STATUSES[self.status_number]


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    revoked_at: Mapped[datetime | None]


class EventStatus(StrEnum):
    PENDING = "PENDING"
    ASSESSED = "ASSESSED"
    FAILED = "FAILED"


STATUSES = dict(enumerate(EventStatus, 1))


class EventResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: EventStatus
    revision: int
    sequence: int
    started_at: datetime
    ended_at: datetime
    closed: bool
    labels: list[str]


def application(database_url: str) -> FastAPI:
    sessions = async_sessionmaker(
        create_async_engine(database_url, pool_size=CONNECTIONS), expire_on_commit=False
    )
    known_keys: TTLCache[str, UUID] = TTLCache(REMEMBERED_KEYS, REMEMBERED_SECONDS)
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    async def authenticated(
        request: Request, secret: Annotated[str, Security(APIKeyHeader(name="x-api-key"))]
    ) -> None:
        sha256 = hashlib.sha256(secret.encode()).hexdigest()
        request.state.key_id = known_keys.get(sha256)
        if request.state.key_id is None:
            async with sessions() as opened:
                found = await opened.scalar(
                    select(ApiKey).where(ApiKey.sha256 == sha256, ApiKey.revoked_at.is_(None))
                )
            if found is None:
                raise HTTPException(401)
            request.state.key_id = known_keys[sha256] = found.id

    @app.get("/events", dependencies=[Depends(authenticated)], response_model=list[EventResponse])
    async def events(
        opened: Annotated[AsyncSession, Depends(session)], first: Annotated[int, Query(ge=1, le=200)] = 50
    ) -> object:
        newest = select(Event).order_by(Event.started_at.desc(), Event.id.desc()).limit(first)
        return (await opened.scalars(newest)).all()

    return app


def main() -> None:
    uvicorn.run(
        application(sys.argv[1]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()

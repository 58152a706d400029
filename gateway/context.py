"""What the resolvers of one request may use."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import strawberry

from gateway.loaders import Loaders
from gateway.siblings import Siblings
from lares.store.v1.events_pb2 import EventChanged
from mesh.tls.tls import Tls


class LiveFeed(Protocol):
    """The part of `mesh.feed.Feed` that subscriptions need."""

    def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        """Yields every change after the sequence `after` (None: from now on), then live changes, each once
        and in order."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    siblings: Siblings
    loaders: Loaders
    feed: LiveFeed
    # None: this process has no TLS.
    tls: Tls | None = None


Info: TypeAlias = strawberry.Info[Context, None]

"""What a resolver may reach."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import strawberry

from gateway.loaders import Loaders
from gateway.siblings import Siblings
from lares.store.v1.events_pb2 import EventChanged


class Watched(Protocol):
    """The live feed, as mesh.feed keeps it."""

    def watch(self, after: int | None) -> AsyncGenerator[EventChanged, None]:
        """Every change after the sequence `after` (None: from now), then live, each once and in order."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    siblings: Siblings
    loaders: Loaders
    feed: Watched


Info: TypeAlias = strawberry.Info[Context, None]

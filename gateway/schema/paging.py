"""Connections, which have the same form everywhere. A cursor is the store's page token for what follows
it."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import strawberry

from mesh.problems import Invalid

T = TypeVar("T")

PAGE = 50
LARGEST_PAGE = 200
LARGEST_ASSESSMENT_PAGE = 100
LARGEST_DETECTION_PAGE = 500


class PagedResponse(Protocol):
    """What every response of the store that is a page has."""

    @property
    def page_tokens(self) -> Sequence[str]: ...

    @property
    def next_page_token(self) -> str: ...


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None = strawberry.field(
        description="The cursor of the last edge; null if the page is empty."
    )


@strawberry.type
class Edge(Generic[T]):
    cursor: str = strawberry.field(description="Pass it as `after` for what follows this edge.")
    node: T


@strawberry.type
class Connection(Generic[T]):
    edges: list[Edge[T]]
    page_info: PageInfo


def connect(node: Callable[..., T], messages: Sequence[Any], page: PagedResponse) -> Connection[T]:
    """Makes a connection of `messages`, each of which has a token in `page`. `node` wraps one message."""
    tokens = page.page_tokens
    return Connection(
        edges=[
            Edge(cursor=token, node=node(message=message))
            for message, token in zip(messages, tokens, strict=True)
        ],
        page_info=PageInfo(
            has_next_page=bool(page.next_page_token), end_cursor=tokens[-1] if tokens else None
        ),
    )


def page_size(first: int | None, largest: int = LARGEST_PAGE) -> int:
    """Returns the page size to request from the store. Raises Invalid BAD_PAGE_SIZE if it is not in
    1..largest."""
    if first is None:
        return PAGE
    if not 1 <= first <= largest:
        raise Invalid(f"first must be between 1 and {largest}", "BAD_PAGE_SIZE")
    return first

"""Connections, in the same form everywhere. A cursor is the store's page token for what follows."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import strawberry

from mesh.problems import Invalid

T = TypeVar("T")

PAGE = 50
LARGEST_PAGE = 200
LARGEST_ASSESSMENT_PAGE = 100
LARGEST_DETECTION_PAGE = 500


class Page(Protocol):
    """What every answer of the store with a page in it has."""

    @property
    def page_tokens(self) -> Sequence[str]: ...

    @property
    def next_page_token(self) -> str: ...


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None = strawberry.field(description="Of the last edge; null on an empty page.")


@strawberry.type
class Edge(Generic[T]):
    cursor: str = strawberry.field(description="As `after`: what follows this edge.")
    node: T


@strawberry.type
class Connection(Generic[T]):
    edges: list[Edge[T]]
    page_info: PageInfo


def connect(node: Callable[..., T], messages: Sequence[Any], page: Page) -> Connection[T]:
    """`node` wraps one message; the page has a token for each."""
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
    """How many to ask the store for; raises Invalid beyond 1..largest."""
    if first is None:
        return PAGE
    if not 1 <= first <= largest:
        raise Invalid(f"first must be between 1 and {largest}", "BAD_PAGE_SIZE")
    return first

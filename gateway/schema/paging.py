"""Connections, which have the same form everywhere. A cursor is the store's page token for what follows
it."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import strawberry

from gateway.schema.message_fields import FieldReader, reader_field
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


def _page_info(page: PagedResponse) -> PageInfo:
    tokens = page.page_tokens
    return PageInfo(has_next_page=bool(page.next_page_token), end_cursor=tokens[-1] if tokens else None)


@strawberry.type
class Edge(Generic[T]):
    """`kind` makes the node from its message."""

    message: strawberry.Private[Any]
    kind: strawberry.Private[Callable[..., Any]]
    cursor: str = strawberry.field(description="Pass it as `after` for what follows this edge.")
    node: T = reader_field(FieldReader("wrapped_node", messages=FieldReader("message")))

    @property
    def wrapped_node(self) -> T:
        return cast("T", self.kind(message=self.message))


@strawberry.type
class Connection(Generic[T]):
    """A page of the store. Edges and nodes are made only for fields that are not read from the messages."""

    messages: strawberry.Private[Sequence[Any]]
    page: strawberry.Private[PagedResponse]
    kind: strawberry.Private[Callable[..., Any]]
    edges: list[Edge[T]] = reader_field(FieldReader("wrapped_edges", messages=FieldReader("messages")))
    page_info: PageInfo = reader_field(FieldReader("page", _page_info))

    @property
    def wrapped_edges(self) -> list[Edge[T]]:
        pairs = zip(self.messages, self.page.page_tokens, strict=True)
        return [Edge(message=message, kind=self.kind, cursor=token) for message, token in pairs]


def connect(kind: Callable[..., T], messages: Sequence[Any], page: PagedResponse) -> Connection[T]:
    """Makes a connection of `messages`, each of which has a token in `page`. `kind` wraps one message."""
    if len(messages) != len(page.page_tokens):
        raise ValueError("a page must have a token for each message")
    return Connection(messages=messages, page=page, kind=kind)


def page_size(first: int | None, largest: int = LARGEST_PAGE) -> int:
    """Returns the page size to request from the store. Raises Invalid BAD_PAGE_SIZE if it is not in
    1..largest."""
    if first is None:
        return PAGE
    if not 1 <= first <= largest:
        raise Invalid(f"first must be between 1 and {largest}", "BAD_PAGE_SIZE")
    return first

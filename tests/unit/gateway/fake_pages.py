"""Times, ids and pages of a FakeStore."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeVar
from uuid import NAMESPACE_URL, uuid5

from mesh.problems import Invalid

T = TypeVar("T")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def uuid(*parts: object) -> str:
    return str(uuid5(NAMESPACE_URL, "/".join(map(str, parts))))


def page(
    items: Sequence[T], size: int, token: str, id_of: str | Callable[[T], object], *scope: object
) -> tuple[Sequence[T], list[str], str]:
    """Returns one page of a list, the token of each of its items, and that of the next page. A token names
    the list and the item after which a page starts. `id_of` is the path of an item's id, or returns one.
    Raises Invalid BAD_PAGE_TOKEN for the token of another list."""
    if isinstance(id_of, str):
        id_of = attrgetter(id_of)
    tokens = [uuid("page", *scope, id_of(item)) for item in items]
    if token and token not in tokens:
        raise Invalid("this page token belongs to another list or filter", "BAD_PAGE_TOKEN")
    start = tokens.index(token) + 1 if token else 0
    end = start + size
    return items[start:end], tokens[start:end], tokens[end - 1] if end < len(items) else ""

"""Page tokens: opaque cursors, each valid for one listing with one filter."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, TypeVar
from uuid import UUID

from mesh.problems import Invalid
from store_svc.database.statement import Row
from store_svc.times import micros, moment

SCOPE_BYTES = 8

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class KeyColumn:
    """How one column of a sort key is encoded: its struct format, and the conversions to and from it."""

    format: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


TIME = KeyColumn("q", micros, moment)
ID = KeyColumn("16s", lambda id: id.bytes, lambda raw: UUID(bytes=raw))
SCORE = KeyColumn("d", float, float)
NUMBER = KeyColumn("q", int, int)
SLUG = KeyColumn("64p", str.encode, bytes.decode)


class PageTokens:
    """The tokens of one listing.

    `key` has the columns that the listing is sorted by, which together are unique. `scope` is the filter. The
    token of a row does not depend on other rows.
    """

    def __init__(self, listing: str, key: dict[str, KeyColumn], scope: object = ()) -> None:
        self._key = key
        self._struct = Struct(">" + "".join(column.format for column in key.values()))
        self._scope = hashlib.sha256(repr((listing, scope)).encode()).digest()[:SCOPE_BYTES]

    def token(self, row: Row) -> str:
        """Returns the token of the page that starts after this row."""
        return self._tokens([row])[0]

    def _tokens(self, rows: Sequence[Row]) -> list[str]:
        """Works column by column, which takes two thirds of the time for a page."""
        columns = [[column.pack(row[name]) for row in rows] for name, column in self._key.items()]
        scope, pack, encode = self._scope, self._struct.pack, base64.urlsafe_b64encode
        return [encode(scope + pack(*parts)).rstrip(b"=").decode() for parts in zip(*columns, strict=True)]

    def after(self, token: str) -> tuple[Any, ...] | None:
        """Returns the sort key after which the page starts, or None for the first page (an empty token).

        Raises Invalid (BAD_PAGE_TOKEN) if the token is malformed, or of another listing or filter.
        """
        if not token:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            parts = self._struct.unpack(raw[SCOPE_BYTES:])
            key = tuple(column.unpack(part) for column, part in zip(self._key.values(), parts, strict=True))
        except (ValueError, OverflowError, StructError):
            raise _bad_token() from None
        if raw[:SCOPE_BYTES] != self._scope:
            raise _bad_token()
        return key

    def cut(self, rows: Sequence[R], size: int) -> tuple[Sequence[R], list[str], str]:
        """Splits up to `size` + 1 rows: the page, a token for each of its rows, and the next page's token.

        The next page's token is empty on the last page.
        """
        page = rows[:size]
        tokens = self._tokens(page)
        return page, tokens, tokens[-1] if len(rows) > size else ""


def _bad_token() -> Invalid:
    return Invalid("this page token belongs to another list or filter", "BAD_PAGE_TOKEN")

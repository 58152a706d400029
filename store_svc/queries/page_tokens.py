"""Page tokens: opaque cursors of a listing, each good for that listing and filter alone."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, Protocol, TypeVar
from uuid import UUID

from mesh.problems import Invalid
from store_svc.times import micros, moment

SCOPE_BYTES = 8


class Row(Protocol):
    """Read by column name."""

    def __getitem__(self, name: str, /) -> Any: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class KeyColumn:
    """How one column of a sort key travels: its struct format, and the way there and back."""

    format: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


TIME = KeyColumn("q", micros, moment)
ID = KeyColumn("16s", lambda id: id.bytes, lambda raw: UUID(bytes=raw))
SCORE = KeyColumn("d", float, float)
NUMBER = KeyColumn("q", int, int)
SLUG = KeyColumn("64p", str.encode, bytes.decode)


class PageTokens:
    """The tokens of one listing. `key` names the columns it is sorted by, which tell every two rows apart;
    `scope` is what it is filtered by. A row keeps its token whatever else comes or goes."""

    def __init__(self, listing: str, key: dict[str, KeyColumn], scope: object = ()) -> None:
        self._key = key
        self._struct = Struct(">" + "".join(kind.format for kind in key.values()))
        self._scope = hashlib.sha256(repr((listing, scope)).encode()).digest()[:SCOPE_BYTES]

    def token(self, row: Row) -> str:
        """Asks for what comes after this row."""
        packed = self._struct.pack(*[kind.pack(row[name]) for name, kind in self._key.items()])
        return base64.urlsafe_b64encode(self._scope + packed).rstrip(b"=").decode()

    def after(self, token: str) -> tuple[Any, ...] | None:
        """The sort key to go on after; None for the first page. Raises Invalid BAD_PAGE_TOKEN for a token of
        another listing or filter, or one that was never handed out."""
        if not token:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            parts = self._struct.unpack(raw[SCOPE_BYTES:])
            key = tuple(kind.unpack(part) for kind, part in zip(self._key.values(), parts, strict=True))
        except (ValueError, OverflowError, StructError):
            raise _bad_token() from None
        if raw[:SCOPE_BYTES] != self._scope:
            raise _bad_token()
        return key

    def cut(self, rows: Sequence[R], size: int) -> tuple[Sequence[R], list[str], str]:
        """Of up to `size` + 1 rows read: the page, the token of each of its rows, and that of the next page,
        empty on the last."""
        page = rows[:size]
        tokens = [self.token(row) for row in page]
        return page, tokens, tokens[-1] if len(rows) > size else ""


def _bad_token() -> Invalid:
    return Invalid("this page token belongs to another list or filter", "BAD_PAGE_TOKEN")

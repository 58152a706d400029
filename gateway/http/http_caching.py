"""The headers with which content is cached, and requests of clients that have it already."""

from starlette.requests import Request

YEAR_SECONDS = 365 * 24 * 3600
# Whatever type a browser takes the bytes for, it runs no script and loads nothing.
_SECURITY = {"content-security-policy": "default-src 'none'; sandbox"}
# Of content that never changes, and of content that the client must ask for again, which costs little if it
# has not changed.
IMMUTABLE = _SECURITY | {"cache-control": f"private, max-age={YEAR_SECONDS}, immutable"}
CHANGING = _SECURITY | {"cache-control": "private, no-cache"}


def has_entity(request: Request, etag: str) -> bool:
    """Whether the client has this entity already. Tags are compared weakly, as RFC 9110 requires for
    If-None-Match."""
    header = request.headers.get("if-none-match", "")
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))

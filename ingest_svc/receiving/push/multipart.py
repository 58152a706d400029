"""Reads multipart bodies, one part after another, while they arrive."""

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from mesh.problems import Invalid

# Types of parts beside the pictures: what a camera says of its alarm, and fields of forms.
NOTES = re.compile(r"text/|application/(.*\+)?(xml|json)$|application/x-www-form-urlencoded$")
NOTE_NAMES = (".xml", ".json", ".txt")


@dataclass
class FormPart:
    """The headers of a part, by lower-case name."""

    headers: dict[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return file_name_of(self.headers.get("content-disposition", ""))

    @property
    def may_be_media(self) -> bool:
        name, kind = self.file_name, media_type_of(self.headers.get("content-type", ""))
        if name.lower().endswith(NOTE_NAMES):
            return False
        return not NOTES.match(kind) if kind else bool(name)


class _End:
    """The end of a part."""


class MultipartReader:
    """`body` is the rest of what arrives. Raises Invalid BAD_MULTIPART."""

    def __init__(self, boundary: str, body: AsyncIterator[bytes]) -> None:
        self._boundary, self._body = boundary.encode("latin-1"), body
        self._events: deque[FormPart | bytes | type[_End]] = deque()
        self._parser: MultipartParser | None = None
        self._part = FormPart()
        self._name, self._value = b"", b""
        self._in_part = self._ended = False

    async def next_part(self) -> FormPart | None:
        """Skips what is left of the part before. None at the end."""
        while True:
            event = await self._next()
            if event is None or isinstance(event, FormPart):
                self._in_part = event is not None
                return event

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content of the part."""
        while self._in_part:
            event = await self._next()
            if isinstance(event, bytes):
                yield event
            else:
                self._in_part = False

    async def _next(self) -> FormPart | bytes | type[_End] | None:
        while not self._events:
            if self._ended:
                return None
            await self._feed()
        return self._events.popleft()

    async def _feed(self) -> None:
        piece = await anext(self._body, b"")
        if self._parser is None:
            piece = await self._beginning(piece)
        if not piece:
            raise Invalid("the end of the form is missing", "BAD_MULTIPART")
        try:
            if self._parser is None:
                self._parser = self._make_parser(piece)
            self._parser.write(piece)
        except FormParserError as error:
            raise Invalid(f"this is not a multipart form: {error}", "BAD_MULTIPART") from None

    async def _beginning(self, piece: bytes) -> bytes:
        """As much as tells how the boundary is meant."""
        while piece and len(piece.lstrip(b"\r\n")) < len(self._boundary) + 2:
            more = await anext(self._body, b"")
            if not more:
                break
            piece += more
        return piece

    def _make_parser(self, beginning: bytes) -> MultipartParser:
        boundary, beginning = self._boundary, beginning.lstrip(b"\r\n")
        # Some cameras declare the boundary with the two hyphens that each line of it begins with.
        if boundary.startswith(b"--") and not beginning.startswith(b"--" + boundary):
            boundary = boundary[2:]
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": lambda: self._events.append(self._part),
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(_End),
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        self._part = FormPart()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name, self._value = b"", b""

    def _on_end(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> str | None:
    """None if it is no multipart type. Raises Invalid BAD_MULTIPART."""
    kind, options = parse_options_header(content_type)
    if not kind.startswith(b"multipart/"):
        return None
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Invalid("the multipart form has no boundary", "BAD_MULTIPART")
    return boundary.decode("latin-1")


def media_type_of(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def file_name_of(disposition: str) -> str:
    """The name in a Content-Disposition, without folders; empty if there is none."""
    name = parse_options_header(disposition)[1].get(b"filename", b"").decode("utf-8", "replace")
    return re.split(r"[/\\]", name)[-1][:1024]

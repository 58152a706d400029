"""Secrets that may change while Lares runs, because a setting is given by a file
(`LARES_DATABASE_URL_FILE`)."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from mesh.problems import Invalid

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_BYTES = 65_536
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ufeff]")


class Secret:
    """A secret setting as it was last read, which may be the URL of a server with its credentials."""

    def __init__(self, value: str, read: Callable[[], str]) -> None:
        """`read` returns the secret as it is now. It raises ValueError with the reason if it cannot."""
        self.value, self._read = value, read

    @classmethod
    def of(cls, value: "str | Secret") -> "Secret":
        """The secret itself, or one that never changes."""
        return value if isinstance(value, Secret) else cls(value, lambda: value)

    def renewed(self, refused: str) -> bool:
        """Whether there is another value than the one that a server has refused, so that one more attempt
        makes sense. Reads the secret again, unless somebody has already. It stays as it was if it cannot be
        read, which is logged."""
        if self.value == refused:
            try:
                self.value = self._read()
            except ValueError as error:
                log.warning("a refused secret cannot be read again", error=str(error))
        return self.value != refused

    def parsed(self, parse: Callable[[str], T]) -> "ParsedSecret[T]":
        """Raises what `parse` raises for the value as it is now."""
        return ParsedSecret(self, parse)

    def __repr__(self) -> str:
        return "Secret(***)"


class ParsedSecret(Generic[T]):
    """What a secret says, for example the address and the login of a server."""

    def __init__(self, secret: Secret, parse: Callable[[str], T]) -> None:
        """`parse` raises Invalid for a value that does not fit."""
        self._secret, self._parse = secret, parse
        self._text = secret.value
        self.value = parse(self._text)

    def renewed(self, refused: T) -> bool:
        """As `Secret.renewed`. A new value that does not fit is logged and not used."""
        if self.value is refused and self._secret.renewed(self._text):
            self._text = self._secret.value
            try:
                self.value = self._parse(self._text)
            except Invalid as problem:
                log.warning("a changed secret cannot be used", error=problem.message)
        return self.value is not refused


def read_secret_file(path: Path) -> str:
    """The content of the file without the newline at its end. Raises ValueError, without the content, if it
    is not a regular file with one line of text in UTF-8, or cannot be read."""
    try:
        # Opening a pipe would wait for its other end.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MOST_BYTES + 1) if regular else b""
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if not regular:
        raise ValueError(f"{path} is not a regular file")
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
    try:
        line = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    if not line.strip():
        raise ValueError(f"{path} is empty")
    if _NOT_TEXT.search(line):
        raise ValueError(f"{path} must hold one line of text without control characters or a byte-order mark")
    return line

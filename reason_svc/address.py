"""Where an LLM server is, and what is known of it beforehand: the grammar of its URL."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from mesh.problems import Invalid
from reason_svc.families import Family


class Kind(StrEnum):
    """The servers that differ. `openai` is any other."""

    LLAMA_CPP = "llama.cpp"
    TRTLLM = "trtllm"
    VLLM = "vllm"
    OLLAMA = "ollama"
    OPENAI = "openai"


FORM = "openai+http(s)://[:key@]host:port/v1?model=...[&server=][&family=][&context=][&slots=]"
E = TypeVar("E", bound=StrEnum)
OPTIONS = ("model", "server", "family", "context", "slots")


@dataclass(frozen=True, slots=True)
class Address:
    """`base` is `http(s)://host:port/v1`, without credentials or a slash at its end. What is None is asked of
    the server, or known by its kind or by the model's name."""

    base: str
    model: str
    key: str = field(default="", repr=False)
    kind: Kind | None = None
    family: Family | None = None
    context: int | None = None
    slots: int | None = None

    @property
    def root(self) -> str:
        """Where the server's own pages are, outside the API."""
        return self.base.removesuffix("/v1")


def read_address(url: str) -> Address:
    """Of `openai+http(s)://...`; raises Invalid BAD_SETTING, which never repeats a credential."""
    try:
        parts = urlsplit(url.removeprefix("openai+"))
        host, port, user, key = parts.hostname, parts.port, parts.username, parts.password
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        (host or "").encode("idna")
    except ValueError:
        raise _wrong("it is no URL") from None
    options = dict(pairs)
    if not host or parts.scheme not in ("http", "https") or parts.fragment or not url.startswith("openai+"):
        raise _wrong("it is no URL of a server")
    if user or (parts.username is not None and not key):
        raise _wrong("a key is written as `:key@`, with nothing before the colon")
    if not unquote(key or "").isprintable():
        raise _wrong("a key has no control characters")
    if len(options) < len(pairs) or not options.keys() <= set(OPTIONS):
        raise _wrong(f"its options are {', '.join(OPTIONS)}, each once")
    if not options.get("model"):
        raise _wrong("model= is missing: the name by which the server knows the model")
    name = f"[{host}]" if ":" in host else host
    return Address(
        base=f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}",
        model=options["model"],
        key=unquote(key or ""),
        kind=_one_of(Kind, "server", options),
        family=_one_of(Family, "family", options),
        context=_number("context", options, 512),
        slots=_number("slots", options, 1),
    )


def _one_of(names: type[E], option: str, options: dict[str, str]) -> E | None:
    if option not in options:
        return None
    try:
        return names(options[option])
    except ValueError:
        raise _wrong(f"{option}= is one of {', '.join(names)}") from None


def _number(option: str, options: dict[str, str], least: int) -> int | None:
    if option not in options:
        return None
    value = options[option]
    if not (value.isascii() and value.isdigit() and len(value) < 9 and int(value) >= least):
        raise _wrong(f"{option}= is a number from {least} on")
    return int(value)


def _wrong(why: str) -> Invalid:
    return Invalid(f"LARES_REASONER_URL: {why}; the form is {FORM}", "BAD_SETTING")

"""The URL of an LLM server and what it declares about the server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from mesh.problems import Invalid
from mesh.url_options import OptionForm, number, one_of, read_options, text
from reason_svc.language_models.model_families import ModelFamily


class LlmServerKind(StrEnum):
    """The kinds of servers that are treated differently. `openai` is any other server."""

    LLAMA_CPP = "llama.cpp"
    TRTLLM = "trtllm"
    VLLM = "vllm"
    OLLAMA = "ollama"
    OPENAI = "openai"


FORM = "openai+http(s)://[:key@]host:port/v1?model=...[&server=][&family=][&context=][&slots=]"
OPTIONS: Mapping[str, OptionForm] = {
    "model": text,
    "server": one_of(*LlmServerKind),
    "family": one_of(*ModelFamily),
    "context": number(512, 99_999_999),
    "slots": number(1, 99_999_999),
}


@dataclass(frozen=True, slots=True)
class LlmEndpoint:
    """`base` is `http(s)://host:port/v1`, without credentials or a trailing slash. A field that is None is
    asked of the server, or follows from its kind or from the model's name."""

    base: str
    model: str
    key: str = field(default="", repr=False)
    kind: LlmServerKind | None = None
    family: ModelFamily | None = None
    context: int | None = None
    slots: int | None = None

    @property
    def root(self) -> str:
        """The base of the paths that are not part of the OpenAI API."""
        return self.base.removesuffix("/v1")


def parse_llm_url(url: str) -> LlmEndpoint:
    """Parses `openai+http(s)://...`. Raises Invalid BAD_SETTING; the message never repeats a credential."""
    try:
        parts = urlsplit(url.removeprefix("openai+"))
        host, port, user, key = parts.hostname, parts.port, parts.username, parts.password
        (host or "").encode("idna")
    except ValueError:
        raise _bad_setting("it is not a URL") from None
    if not host or parts.scheme not in ("http", "https") or parts.fragment or not url.startswith("openai+"):
        raise _bad_setting("it is not the URL of a server")
    if user or (parts.username is not None and not key):
        raise _bad_setting("a key is written as `:key@`, with nothing before the colon")
    if not unquote(key or "").isprintable():
        raise _bad_setting("a key must not contain control characters")
    try:
        options = read_options(parts.query, OPTIONS, quote=False)
    except ValueError as error:
        raise _bad_setting(str(error)) from None
    if "model" not in options:
        raise _bad_setting("model= is missing: the name by which the server knows the model")
    name = f"[{host}]" if ":" in host else host
    return LlmEndpoint(
        base=f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}",
        model=options["model"],
        key=unquote(key or ""),
        kind=LlmServerKind(options["server"]) if "server" in options else None,
        family=ModelFamily(options["family"]) if "family" in options else None,
        context=options.get("context"),
        slots=options.get("slots"),
    )


def _bad_setting(why: str) -> Invalid:
    return Invalid(f"LARES_REASONER_URL: {why}; the form is {FORM}", "BAD_SETTING")

"""What a `triton://` URL says. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mesh.config import split_address
from mesh.problems import Invalid

TRITON = "triton://[:token@]host:8001[,host:8001...]/model[?version=&tls=true&in_flight=&processes=]"
FORMS = f"litert:efficientdet-lite0, onnx:/path/model.onnx and {TRITON}"

Form = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class TritonUrl:
    """Servers that hold the same model. `version` "" is the newest; `in_flight` per server, 0: by the model's
    configuration; `processes` that decode, 0: by the machine."""

    addresses: tuple[str, ...]
    model: str
    token: str = field(default="", repr=False)
    version: str = ""
    tls: bool = False
    in_flight: int = 0
    processes: int = 0


def parse_triton_url(url: str) -> TritonUrl:
    """Raises Invalid BAD_SETTING, without the token in its words."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise bad_setting(str(error)) from None
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, token = credentials.partition(":")
    addresses = tuple(host for host in hosts.split(",") if host)
    model = parts.path.strip("/")
    if user or not addresses or not re.fullmatch(r"[A-Za-z0-9._-]+", model):
        raise bad_setting(f"expected {TRITON}")
    if len(set(addresses)) < len(addresses):
        raise bad_setting("names a server twice")
    for address in addresses:
        try:
            split_address(address)
        except ValueError as error:
            raise bad_setting(str(error)) from None
    forms = {"version": number(10**6), "tls": one_of("true", "false"), "in_flight": number(256)}
    said = options(parts.query, forms | {"processes": number(64)})
    version, tls = str(said.pop("version", "")), said.pop("tls", "") == "true"
    return TritonUrl(addresses, model, unquote(token), version, tls, **said)


def options(query: str, forms: Mapping[str, Form]) -> dict[str, Any]:
    """The options of a URL, each by its form (which raises ValueError). Raises Invalid BAD_SETTING."""
    said = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in forms:
            raise bad_setting(f"{name} is not one of {', '.join(forms)}")
        try:
            said[name] = forms[name](value)
        except ValueError as error:
            raise bad_setting(f"{name}={value} is not {error}") from None
    return said


def number(most: int) -> Form:
    def form(value: str) -> int:
        if not value.isdecimal() or not 1 <= int(value) <= most:
            raise ValueError(f"1 to {most}")
        return int(value)

    return form


def one_of(*words: str) -> Form:
    def form(value: str) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return form


def bad_setting(what: str) -> Invalid:
    return Invalid(f"LARES_DETECTOR_URL: {what}", "BAD_SETTING")

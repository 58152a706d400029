"""Parsing of LARES_DETECTOR_URL. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from mesh.addresses import split_address
from mesh.problems import Invalid
from mesh.url_options import OptionForm, number, one_of, read_options

TRITON_FORM = "triton://[:token@]host:8001[,host:8001...]/model[?version=&tls=true&in_flight=&processes=]"
FORMS = f"litert:efficientdet-lite0, onnx:/path/model.onnx and {TRITON_FORM}"
TRITON_OPTIONS: Mapping[str, OptionForm] = {
    "version": number(1, 10**6),
    "tls": one_of("true", "false"),
    "in_flight": number(1, 256),
    "processes": number(1, 64),
}


@dataclass(frozen=True, slots=True)
class TritonUrl:
    """Triton servers that hold the same model.

    An empty `version` means the newest. `in_flight` is the limit of each server, 0: by the model's
    configuration. `processes` decode photos, 0: by the number of cores.
    """

    addresses: tuple[str, ...]
    model: str
    token: str = field(default="", repr=False)
    version: str = ""
    tls: bool = False
    in_flight: int = 0
    processes: int = 0


def parse_triton_url(url: str) -> TritonUrl:
    """Raises Invalid BAD_SETTING, whose message does not contain the token."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise bad_setting(str(error)) from None
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, token = credentials.partition(":")
    addresses = tuple(host for host in hosts.split(",") if host)
    model = parts.path.strip("/")
    if user or not addresses or not re.fullmatch(r"[A-Za-z0-9._-]+", model):
        raise bad_setting(f"expected {TRITON_FORM}")
    if len(set(addresses)) < len(addresses):
        raise bad_setting("names a server twice")
    for address in addresses:
        try:
            split_address(address)
        except ValueError as error:
            raise bad_setting(str(error)) from None
    options = parse_options(parts.query, TRITON_OPTIONS)
    version, tls = str(options.pop("version", "")), options.pop("tls", "") == "true"
    return TritonUrl(addresses, model, unquote(token), version, tls, **options)


def parse_options(query: str, forms: Mapping[str, OptionForm]) -> dict[str, Any]:
    """As `read_options`, but raises Invalid BAD_SETTING."""
    try:
        return read_options(query, forms)
    except ValueError as error:
        raise bad_setting(str(error)) from None


def bad_setting(message: str) -> Invalid:
    return Invalid(f"LARES_DETECTOR_URL: {message}", "BAD_SETTING")

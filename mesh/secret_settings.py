"""Which settings are secret, and how the URL of a server gets the credentials that have settings of their
own."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

# Marks the settings that may also be given by a file: LARES_BUS_PASSWORD by LARES_BUS_PASSWORD_FILE. A URL is
# one because it may contain credentials.
SECRET, SECRET_URL = "secret", "secret URL"
SecretText = Annotated[str, SECRET]
SecretUrl = Annotated[str, SECRET_URL]

# The settings whose values become part of a URL's login.
CREDENTIALS = {
    "database_url": ("database_password",),
    "bus_url": ("bus_password",),
    "blobs_url": ("blobs_key", "blobs_secret"),
    "detector_url": ("detector_token",),
    "reasoner_url": ("reasoner_token",),
}
# These URLs name the user; the setting is only the password.
_WITH_USER = {"database_url", "bus_url"}


def with_credentials(name: str, values: Mapping[str, str]) -> str:
    """The URL of the setting `name` with the credentials of CREDENTIALS that are set, percent-encoded.

    `values` has the URL and its credentials, by field. Raises ValueError, without any of them, if a
    credential has no place in the URL or is there already.
    """
    url, fields = values[name], CREDENTIALS[name]
    given = [values[field] for field in fields]
    if not any(given):
        return url
    names = " and ".join(f"LARES_{field.upper()}" for field in fields)
    target = f"LARES_{name.upper()}"
    if not all(given):
        raise ValueError(f"{names} must be set together")
    scheme, separator, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    login, _, host = rest[:end].rpartition("@")
    if not separator or not (host or login):  # a database may be at a socket
        raise ValueError(f"{names}: {target} names no server that takes credentials")
    if ":" in login or (login and name not in _WITH_USER):
        raise ValueError(f"{names}: {target} contains credentials, too: remove them there")
    if name in _WITH_USER and not login:
        raise ValueError(f"{names}: {target} names no user: write user@ in front of the host")
    user = quote(given[0], safe="") if len(given) > 1 else login
    return f"{scheme}://{user}:{quote(given[-1], safe='')}@{host}{rest[end:]}"

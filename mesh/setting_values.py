"""How the values of settings are written, and read from that. What is no text was read already: it is
returned unchanged. A ValueError names the part that is wrong."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field


def split_list(value: object) -> object:
    """Reads `a,b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def pairs_of(value: object) -> object:
    """Reads `a=1,b=2`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for part in value.split(","):
        if not part.strip():
            continue
        name, _, number = (side.strip() for side in part.partition("="))
        if not name:
            raise ValueError(f"{part.strip()!r} has no name")
        if name in pairs:
            raise ValueError(f"{name!r} is there twice")
        pairs[name] = number
    return pairs


def targets_of(value: object) -> object:
    """Reads LARES_PEERS: a part without a name is another address of the target before it. Raises
    ValueError."""
    if not isinstance(value, str):
        return value
    joined: list[str] = []
    for part in filter(None, map(str.strip, value.split(","))):
        if "=" in part or not joined:
            joined.append(part)
        else:
            joined[-1] += f"\0{part}"
    pairs = pairs_of(",".join(joined))
    assert isinstance(pairs, dict)
    return {service: target.replace("\0", ",") for service, target in pairs.items()}


def absolute(path: Path) -> Path:
    """Raises ValueError."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"there is no user {path.parts[0]}") from None


def _readable(path: Path) -> Path:
    path = absolute(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


Folder = Annotated[Path, AfterValidator(absolute)]
File = Annotated[Path, AfterValidator(_readable)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Score = Annotated[float, Field(ge=0, le=1)]


def as_text(value: Any) -> str:
    """A setting's value as it is written in `.env`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return str(value)

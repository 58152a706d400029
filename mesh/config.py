"""Settings: `LARES_*` from the environment and `.env`, validated once, at start."""

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from mesh.problems import Conflict, Invalid

WATCHED = "person,bicycle,car,motorcycle,bus,truck,bird,cat,dog,horse,sheep,cow,bear"  # canonical COCO names
# Settings by their names of before, when detect_svc decided what counts; store_svc decides now.
RENAMED = {
    "detect_classes": "watch_classes",
    "detect_threshold": "watch_threshold",
    "detect_thresholds": "watch_thresholds",
    "detect_fast_classes": "watch_fast_classes",
    "detect_fast_threshold": "watch_fast_threshold",
}
SIBLINGS = ("ingest", "detect", "reason", "store")
# What the URL of a part of yours begins with.
SCHEMES = {
    "database_url": ("postgresql+asyncpg://",),
    "bus_url": ("kafka://",),
    "blobs_url": ("file:///", "s3://"),
}


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {name.strip(): number.strip() for name, _, number in pairs}


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"there is no user {path.parts[0]}") from None


def _readable(path: Path) -> Path:
    path = _absolute(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


Folder = Annotated[Path, AfterValidator(_absolute)]
File = Annotated[Path, AfterValidator(_readable)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Score = Annotated[float, Field(ge=0, le=1)]


class Config(BaseSettings):
    """Every setting of Lares. A field `grpc_listen` is the setting `LARES_GRPC_LISTEN`."""

    model_config = SettingsConfigDict(
        env_prefix="LARES_", env_file=".env", extra="ignore", frozen=True, validate_default=True
    )

    home: Folder = Field(Path("data"), description="Folder of everything that Lares keeps.")
    cache: Folder = Field(
        Path("~/.cache/lares"),
        description="Folder of what is fetched: jars, model weights, copies of photos from S3.",
    )
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    database_url: str = Field(
        "embedded:", description="`embedded:` or `postgresql+asyncpg://...`.", repr=False
    )
    bus_url: str = Field("embedded:", description="`embedded:` or `kafka://host:9092,...`.", repr=False)
    blobs_url: str = Field(
        "", description="`file:///folder` or `s3://bucket/...`; empty: `media/` in the home.", repr=False
    )
    blobs_cache_bytes: int = Field(
        2 * 2**30, gt=0, description="Most bytes of copies from `s3://`, in `LARES_CACHE`."
    )
    detector_url: str = Field(
        "litert:efficientdet-lite0",
        description="`litert:efficientdet-lite0`, `onnx:/path/model.onnx` or `triton://host:8001,.../model`.",
        repr=False,
    )
    detector_ca: File | None = Field(None, description="CA (PEM) of Triton, for `tls=true`.")
    reasoner_url: str = Field(
        "rules:",
        description="`rules:`, `openai+http(s)://host:port/v1?model=...` or `llama:/path/model.gguf`.",
        repr=False,
    )
    reasoner_ca: File | None = Field(None, description="CA (PEM) of the LLM server.")

    gateway_listen: str = Field("127.0.0.1:8000", description="GraphQL, media, health and metrics over HTTP.")
    grpc_listen: str = Field("127.0.0.1:50051", description="gRPC for clients.")
    kafka_listen: str = Field("127.0.0.1:9092", description="The embedded Kafka.")
    grpc_reflection: bool = Field(False, description="Serve gRPC reflection.")
    tls_cert: File | None = Field(None, description="Certificate chain (PEM) for HTTP and gRPC.")
    tls_key: File | None = Field(None, description="Its private key (PEM).")
    tls_ca: File | None = Field(None, description="CA (PEM) that signs sibling services, for mutual TLS.")
    allow_plaintext: bool = Field(False, description="Explicit word to listen beyond loopback without TLS.")
    mesh_listen: str = Field("", description="Address for sibling services of other processes (mutual TLS).")
    peers: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="Siblings in other processes: `store=host:port,ingest=host:port`."
    )
    auth: bool = Field(True, description="Ask every caller for an API key.")

    export_python: Path | None = Field(
        None, description="Python of `lares model export`; empty: `.venv-export` beside the code."
    )

    time_zone: str = Field("UTC", description="IANA name, for cameras that have none of their own.")
    ingest_polling: bool = Field(False, description="Poll the cameras folder (network mounts).")
    ingest_poll_seconds: Seconds = Field(1.0, description="Pause between two polls.")
    ingest_settle_seconds: Seconds = Field(0.25, description="How long a size must stand still.")
    ingest_originals: Literal["keep", "take"] = Field("keep", description="take: remove once durable.")
    ingest_max_bytes: int = Field(32 * 2**20, gt=0, description="Largest file taken.")
    ingest_max_pixels: int = Field(64_000_000, gt=0, description="Largest photo taken, width x height.")

    detect_batch: int = Field(8, ge=1, le=64, description="Photos decoded and detected together.")

    detect_seconds: Seconds = Field(30, description="Longest wait for a Triton's answer to one photo.")

    watch_classes: Annotated[list[str], NoDecode] = Field(
        WATCHED.split(","), min_length=1, description="Watched classes, canonical COCO names."
    )
    watch_threshold: Score | None = Field(None, description="Least score; empty: the detector's.")
    watch_thresholds: Annotated[dict[str, Score], NoDecode] = Field(
        {}, description="Least score by class: `person=0.5,car=0.6`."
    )
    watch_fast_classes: Annotated[list[str], NoDecode] = Field(
        ["person"], description="Classes that are judged at once."
    )
    watch_fast_threshold: Score | None = Field(
        None, description="Least score for that; empty: the detector's."
    )

    event_gap_seconds: Seconds = Field(30, description="Longest pause inside one event.")
    event_span_seconds: Seconds = Field(90, description="Longest event.")
    event_max_detections: int = Field(500, ge=1, description="Most detections in one event.")
    severity_medium: int = Field(30, ge=1, le=100, description="Least score of MEDIUM.")
    severity_high: int = Field(60, ge=1, le=100, description="Least score of HIGH.")
    severity_critical: int = Field(85, ge=1, le=100, description="Least score of CRITICAL.")
    reason_concurrency: int = Field(4, ge=1, le=64, description="Most events judged at the same time.")
    reason_prompt: str = Field("v1", description="Version of the prompt for an LLM.")
    reason_seconds: Seconds = Field(120, description="Longest wait for one judgement.")
    lease_seconds: Seconds = Field(15, description="How long a judge may keep an event without a word.")

    # Which settings were given by a name of before, by that name.
    _renamed: tuple[str, ...] = PrivateAttr(())

    _lists = field_validator("watch_classes", "watch_fast_classes", mode="before")(_split)
    _maps = field_validator("watch_thresholds", "peers", mode="before")(_pairs)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_the_default(cls, value: object, info: ValidationInfo) -> object:
        """Of all but lists, which may be empty."""
        default = cls.model_fields[info.field_name or ""].default
        return default if value == "" and not isinstance(default, list) else value

    @field_validator(*SCHEMES)
    @classmethod
    def _known_scheme(cls, value: str, info: ValidationInfo) -> str:
        name = info.field_name or ""
        default = cls.model_fields[name].default
        if value != default and not value.startswith(SCHEMES[name]):
            # The value stays unsaid, for it may hold a password.
            raise ValueError(f"it is {default or 'empty'} or begins with {' or '.join(SCHEMES[name])}")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is no IANA time zone, such as Europe/Berlin") from None
        return value

    @field_validator("gateway_listen", "grpc_listen", "kafka_listen", "mesh_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("peers")
    @classmethod
    def _siblings(cls, value: dict[str, str]) -> dict[str, str]:
        for service, address in value.items():
            if service not in SIBLINGS:
                raise ValueError(f"{service!r} is not one of {', '.join(SIBLINGS)}")
            split_address(address)
        return value

    @model_validator(mode="after")
    def _severities_ascend(self) -> "Config":
        if not self.severity_medium < self.severity_high < self.severity_critical:
            raise ValueError(
                "LARES_SEVERITY_MEDIUM < LARES_SEVERITY_HIGH < LARES_SEVERITY_CRITICAL must hold"
            )
        return self

    @model_validator(mode="after")
    def _certificate_and_key(self) -> "Config":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("LARES_TLS_CERT and LARES_TLS_KEY go together")
        return self

    @property
    def renamed(self) -> dict[str, str]:
        """The settings that were given by their names of before: old variable -> the one of now."""
        return {setting(old): setting(RENAMED[old]) for old in self._renamed}

    @property
    def cameras_folder(self) -> Path:
        return self.home / "cameras"


def split_address(value: str) -> tuple[str, int]:
    """`host:port` -> (host, port); IPv6 hosts in brackets. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not host:port")
    try:
        host.encode("idna")  # as whoever looks it up
    except UnicodeError:
        raise ValueError(f"{value!r} is not host:port") from None
    return host.strip("[]"), int(port)


def load_config(**overrides: object) -> Config:
    """Reads the settings; raises Invalid with a line for each that does not fit, or that there is not."""
    said = _said()
    lines = [*_unknown(said), *_doubled(said)]
    renamed = {old: new for old, new in RENAMED.items() if old in said}
    aliases = {new: said[old] for old, new in renamed.items()}
    try:
        config = Config(**(aliases | overrides))  # type: ignore[arg-type]
    except ValidationError as error:
        given = {new: old for old, new in renamed.items()}
        for e in error.errors():
            names = [given.get(str(part), str(part)) for part in e["loc"][:1]]
            lines.append(f"{setting(*names)}: {e['msg'].removeprefix('Value error, ')}")
    if lines:
        raise Invalid("\n".join(lines), "BAD_SETTING")
    config._renamed = tuple(renamed)
    return config


def _said() -> dict[str, str]:
    """What the environment, or else `.env`, says: by the field's name, known or not."""
    said = {**DotEnvSettingsSource(Config).env_vars, **EnvSettingsSource(Config).env_vars}
    return {
        name.removeprefix("lares_"): value or "" for name, value in said.items() if name.startswith("lares_")
    }


def _unknown(said: Iterable[str]) -> list[str]:
    """What is set and means nothing: misspelt, most likely."""
    return [
        f"{setting(name)}: there is no such setting; the nearest is {setting(*_nearest(name))}"
        for name in sorted(said)
        if name not in Config.model_fields and name not in RENAMED
    ]


def _doubled(said: Container[str]) -> list[str]:
    """What is set by its name of before, and by that of now."""
    return [
        f"{setting(old)}: it is called {setting(new)} now, which is set, too: remove {setting(old)}"
        for old, new in RENAMED.items()
        if old in said and new in said
    ]


def _nearest(name: str) -> list[str]:
    names = get_close_matches(name, [*Config.model_fields, *RENAMED], 1, cutoff=0.0)
    return [RENAMED.get(found, found) for found in names]


def setting(name: str = "*") -> str:
    """The variable of a field."""
    return f"LARES_{name.upper()}"


def as_text(value: Any) -> str:
    """A setting's value as it would stand in `.env`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return str(value)


@contextmanager
def naming(field: str) -> Iterator[None]:
    """What cannot be had within says whose setting that is."""
    try:
        yield
    except (Invalid, Conflict) as problem:
        raise type(problem)(
            f"{setting(field)}: {problem.message}", problem.reason, **problem.metadata
        ) from None

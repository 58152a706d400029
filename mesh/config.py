"""Settings: `LARES_*` from the environment and `.env`, validated once, at start."""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mesh.problems import Invalid

WATCHED = "person,bicycle,car,motorcycle,bus,truck,bird,cat,dog,horse,sheep,cow,bear"  # canonical COCO names


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {name.strip(): number.strip() for name, _, number in pairs}


class Config(BaseSettings):
    """Every setting of Lares. A field `grpc_listen` is the setting `LARES_GRPC_LISTEN`."""

    model_config = SettingsConfigDict(env_prefix="LARES_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(Path("data"), description="Folder of everything that Lares keeps.")
    cache: Path = Field(Path("~/.cache/lares"), description="Folder of what is fetched: jars, model weights.")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    database_url: str = Field(
        "embedded:", description="`embedded:` or `postgresql+asyncpg://...`.", repr=False
    )
    bus_url: str = Field("embedded:", description="`embedded:` or `kafka://host:9092,...`.", repr=False)
    blobs_url: str = Field("", description="`file:///folder`; empty: `media/` in the home.")
    detector_url: str = Field(
        "litert:efficientdet-lite0",
        description="`litert:efficientdet-lite0`, `onnx:/path/model.onnx` or `triton://host:8001,.../model`.",
        repr=False,
    )
    detector_ca: Path | None = Field(None, description="CA (PEM) of Triton, for `tls=true`.")
    reasoner_url: str = Field(
        "rules:",
        description="`rules:`, `openai+http(s)://host:port/v1?model=...` or `llama:/path/model.gguf`.",
        repr=False,
    )
    reasoner_ca: Path | None = Field(None, description="CA (PEM) of the LLM server.")

    gateway_listen: str = Field("127.0.0.1:8000", description="GraphQL, media, health and metrics over HTTP.")
    grpc_listen: str = Field("127.0.0.1:50051", description="gRPC for clients.")
    kafka_listen: str = Field("127.0.0.1:9092", description="The embedded Kafka.")
    grpc_reflection: bool = Field(False, description="Serve gRPC reflection.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM) for HTTP and gRPC.")
    tls_key: Path | None = Field(None, description="Its private key (PEM).")
    tls_ca: Path | None = Field(None, description="CA (PEM) that signs sibling services, for mutual TLS.")
    allow_plaintext: bool = Field(False, description="Explicit word to listen beyond loopback without TLS.")
    mesh_listen: str = Field("", description="Address for sibling services of other processes (mutual TLS).")
    peers: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="Siblings in other processes: `store=host:port,ingest=host:port`."
    )
    auth: bool = Field(True, description="Ask every caller for an API key.")

    time_zone: str = Field("UTC", description="IANA name, for cameras that have none of their own.")
    ingest_polling: bool = Field(False, description="Poll the cameras folder (network mounts).")
    ingest_poll_seconds: float = Field(1.0, gt=0, description="Pause between two polls.")
    ingest_settle_seconds: float = Field(0.25, gt=0, description="How long a size must stand still.")
    ingest_originals: Literal["keep", "take"] = Field("keep", description="take: remove once durable.")
    ingest_max_bytes: int = Field(32 * 2**20, gt=0, description="Largest file taken.")
    ingest_max_pixels: int = Field(64_000_000, gt=0, description="Largest photo taken, width x height.")

    detect_classes: Annotated[list[str], NoDecode] = Field(
        WATCHED.split(","), description="Watched classes, canonical COCO names."
    )
    detect_threshold: float | None = Field(
        None, ge=0, le=1, description="Least score; empty: the detector's."
    )
    detect_thresholds: Annotated[dict[str, float], NoDecode] = Field(
        {}, description="Least score by class: `person=0.5,car=0.6`."
    )
    detect_fast_classes: Annotated[list[str], NoDecode] = Field(
        ["person"], description="Classes that are judged at once."
    )
    detect_fast_threshold: float | None = Field(
        None, ge=0, le=1, description="Least score for that; empty: the detector's."
    )
    detect_batch: int = Field(8, ge=1, le=64, description="Photos decoded and detected together.")

    detect_seconds: float = Field(30, gt=0, description="Longest wait for a Triton's answer to one photo.")

    event_gap_seconds: float = Field(30, gt=0, description="Longest pause inside one event.")
    event_span_seconds: float = Field(90, gt=0, description="Longest event.")
    event_max_detections: int = Field(500, ge=1, description="Most detections in one event.")
    severity_medium: int = Field(30, ge=1, le=100, description="Least score of MEDIUM.")
    severity_high: int = Field(60, ge=1, le=100, description="Least score of HIGH.")
    severity_critical: int = Field(85, ge=1, le=100, description="Least score of CRITICAL.")
    reason_concurrency: int = Field(4, ge=1, le=64, description="Most events judged at the same time.")
    reason_prompt: str = Field("v1", description="Version of the prompt for an LLM.")
    reason_seconds: float = Field(120, gt=0, description="Longest wait for one judgement.")
    lease_seconds: float = Field(15, gt=0, description="How long a judge may keep an event without a word.")

    _lists = field_validator("detect_classes", "detect_fast_classes", mode="before")(_split)
    _maps = field_validator("detect_thresholds", "peers", mode="before")(_pairs)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is no IANA time zone, such as Europe/Berlin") from None
        return value

    @field_validator("gateway_listen", "grpc_listen", "kafka_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _severities_ascend(self) -> "Config":
        if not self.severity_medium < self.severity_high < self.severity_critical:
            raise ValueError(
                "LARES_SEVERITY_MEDIUM < LARES_SEVERITY_HIGH < LARES_SEVERITY_CRITICAL must hold"
            )
        return self

    @property
    def cameras_folder(self) -> Path:
        return self.home / "cameras"


def split_address(value: str) -> tuple[str, int]:
    """`host:port` -> (host, port); IPv6 hosts in brackets. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not host:port")
    return host.strip("[]"), int(port)


def load_config(**overrides: object) -> Config:
    """Reads the settings; raises Invalid with one line per setting that does not fit."""
    try:
        config = Config(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"LARES_{'_'.join(str(part) for part in e['loc'][:1]).upper() or '*'}: {e['msg']}"
            for e in error.errors()
        ]
        raise Invalid("\n".join(lines), "BAD_SETTING") from None
    folders = {"home": config.home.expanduser().absolute(), "cache": config.cache.expanduser().absolute()}
    return config.model_copy(update=folders)

"""The settings: `LARES_*` variables from the environment and `.env`, validated once at the start."""

import codecs
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
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

from mesh.addresses import grpc_target, split_address
from mesh.host_names import is_host_name
from mesh.labels import canonical, unique_by_canonical
from mesh.problems import Conflict, Invalid
from mesh.secret import Secret, read_secret_file
from mesh.secret_settings import (
    CREDENTIALS,
    SECRET,
    SECRET_URL,
    SecretText,
    SecretUrl,
    with_credentials,
)
from mesh.setting_values import File, Folder, Score, Seconds, absolute, pairs_of, split_list, targets_of
from mesh.time_zones import is_time_zone

WATCHED = "person,bicycle,car,motorcycle,bus,truck,bird,cat,dog,horse,sheep,cow,bear"  # canonical COCO names
# Earlier names of settings, from when detect_svc decided which detections count; now store_svc does.
RENAMED = {
    "detect_classes": "watch_classes",
    "detect_threshold": "watch_threshold",
    "detect_thresholds": "watch_thresholds",
    "detect_fast_classes": "watch_fast_classes",
    "detect_fast_threshold": "watch_fast_threshold",
}
# How a file in another encoding begins. The mark of UTF-32 comes first: it begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    codecs.BOM_UTF8: "UTF-8 with a byte-order mark",
}
SIBLINGS = ("ingest", "detect", "reason", "store")
# How the URL of a database, a Kafka or a blob store outside Lares begins.
SCHEMES = {
    "database_url": ("postgresql://", "postgres://", "postgresql+asyncpg://"),
    "bus_url": ("kafka://",),
    "blobs_url": ("file:///", "s3://"),
}


class Config(BaseSettings):
    """Every setting of Lares. A field `grpc_listen` is the setting `LARES_GRPC_LISTEN`."""

    model_config = SettingsConfigDict(
        env_prefix="LARES_", env_file=".env", extra="ignore", frozen=True, validate_default=True
    )

    home: Folder = Field(Path("data"), description="Folder in which Lares keeps its data.")
    cache: Folder = Field(
        Path("~/.cache/lares"),
        description="Folder for what Lares downloads: jars, model weights, copies of media from S3.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Format of the log; `auto` is `console` on a terminal, else `json`."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )

    database_url: SecretUrl = Field(
        "embedded:", description="PostgreSQL: `embedded:` or `postgresql://user@host/name`.", repr=False
    )
    database_password: SecretText = Field(
        "", description="Password for a `LARES_DATABASE_URL` that contains none.", repr=False
    )
    database_ca: File | None = Field(
        None,
        description="CA certificates (PEM, old and new ones) that sign PostgreSQL's; without `sslmode` it is"
        " `verify-full` then.",
    )
    database_pool: int = Field(
        16, ge=2, le=500, description="Maximum number of connections of one store to PostgreSQL."
    )
    database_pool_seconds: Seconds = Field(
        10, description="Maximum seconds for which a call waits for one of these connections to be free."
    )
    migrate: Literal["auto", "verify"] = Field(
        "auto",
        description="Whether a store brings the schema of `LARES_DATABASE_URL` up to date when it starts, or"
        " waits until `lares migrate` has done so.",
    )
    bus_url: SecretUrl = Field(
        "embedded:",
        description="Kafka: `embedded:` or `kafka://[user:password@]host:9092,...[?security=tls&mechanism=...]`.",
        repr=False,
    )
    bus_password: SecretText = Field(
        "", description="Password for a `LARES_BUS_URL` that contains none.", repr=False
    )
    bus_ca: File | None = Field(
        None, description="CA certificates (PEM) that sign Kafka's, for `security=tls`; empty: the system's."
    )
    bus_cert: File | None = Field(None, description="Certificate chain (PEM) that Lares shows to Kafka.")
    bus_key: File | None = Field(None, description="Private key (PEM) of `LARES_BUS_CERT`.")
    bus_session_seconds: Annotated[float, Field(ge=0.5, le=1800)] | None = Field(
        None,
        description="Seconds without a sign of life after which Kafka gives a process's partitions to others;"
        " empty: 10, and 30 with the embedded Kafka.",
    )
    topic_replicas: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Replicas of topics; empty: new ones get 3, or as many as there are brokers."
    )
    topic_partitions: int = Field(
        12,
        ge=1,
        le=1000,
        description="Partitions of the cameras' topics: at most so many processes of one service share the"
        " work. The same for every process, and fixed once there are records.",
    )
    blobs_url: SecretUrl = Field(
        "",
        description="Originals: `file:///folder` or `s3://bucket/...`; empty: `media/` in the home.",
        repr=False,
    )
    blobs_key: SecretText = Field(
        "", description="Access key for an `s3://` URL that contains none.", repr=False
    )
    blobs_secret: SecretText = Field("", description="The secret of `LARES_BLOBS_KEY`.", repr=False)
    blobs_cache_bytes: int = Field(
        2 * 2**30, gt=0, description="Maximum bytes of media from `s3://` that `LARES_CACHE` holds."
    )
    detector_url: SecretUrl = Field(
        "litert:efficientdet-lite0",
        description="Detector: `litert:efficientdet-lite0`, `onnx:/path/model.onnx` or `triton://host:8001,.../model`.",
        repr=False,
    )
    detector_token: SecretText = Field(
        "", description="Token for a `triton://` URL that contains none.", repr=False
    )
    detector_ca: File | None = Field(
        None, description="CA certificate (PEM) that signs Triton's, for `tls=true`."
    )
    reasoner_url: SecretUrl = Field(
        "rules:",
        description="`rules:`, `rules:v1` (an earlier version), `openai+http(s)://host:port/v1?model=...` or"
        " `llama:/path/model.gguf`.",
        repr=False,
    )
    reasoner_token: SecretText = Field(
        "", description="Token for an `openai+http(s)://` URL that contains none.", repr=False
    )
    reasoner_ca: File | None = Field(None, description="CA certificate (PEM) that signs the LLM server's.")

    gateway_listen: str = Field(
        "127.0.0.1:8000", description="Address for GraphQL, media, health and metrics over HTTP."
    )
    grpc_listen: str = Field("127.0.0.1:50051", description="Address for gRPC clients.")
    kafka_listen: str = Field("127.0.0.1:9092", description="Address of the embedded Kafka.")
    grpc_reflection: bool = Field(False, description="Whether gRPC reflection is served to clients.")
    tls_mode: Literal["", "disabled", "self_signed", "provided"] = Field(
        "",
        description="`disabled`; `self_signed`: Lares makes a CA and a certificate itself; `provided`: those"
        " below; empty: `provided` if `LARES_TLS_CERT` is set, else `disabled`.",
    )
    tls_cert: File | None = Field(
        None, description="Certificate chain (PEM) for clients by HTTP, gRPC and FTP, and for siblings."
    )
    tls_key: File | None = Field(None, description="Private key (PEM) of `LARES_TLS_CERT`.")
    tls_ca: File | None = Field(
        None,
        description="CA certificates (PEM) of sibling services, for mutual TLS: whoever has a certificate of"
        " one of them is a sibling. May hold the old and the new one.",
    )
    tls_names: Annotated[list[str], NoDecode] = Field(
        [],
        description="More names and IP addresses for the certificates that Lares makes:"
        " `nas.lan,192.168.1.5`.",
    )
    tls_ca_folder: Folder | None = Field(
        None,
        description="Folder of the CA of `self_signed`; processes may share it; empty: `tls/` in the home.",
    )
    allow_plaintext: bool = Field(
        False,
        description="Whether Lares may listen beyond loopback, or log in to PostgreSQL or Kafka there,"
        " without TLS.",
    )
    mesh_listen: str = Field("", description="Address for sibling services in other processes (mutual TLS).")
    mesh_cert: File | None = Field(
        None,
        description="Certificate chain (PEM) for siblings, if that of clients has another CA; empty:"
        " `LARES_TLS_CERT`.",
    )
    mesh_key: File | None = Field(None, description="Private key (PEM) of `LARES_MESH_CERT`.")
    mesh_plaintext: bool = Field(
        False,
        description="Whether siblings in other processes talk without TLS: whoever reaches"
        " `LARES_MESH_LISTEN` is a sibling and may do everything, unless a service mesh or a firewall stops"
        " it.",
    )
    peers: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="gRPC targets of siblings in other processes: `store=dns:///lares-store:50052,"
        "detect=ipv4:10.0.0.7:50052,10.0.0.8:50052`; `host:port` means `dns:///host:port`. Certificates of"
        " several addresses need the name `lares-detect` and so on.",
    )
    metrics_listen: str = Field(
        "",
        description="Address of this process's `/live`, `/started`, `/ready` and `/metrics` over plain HTTP,"
        " without a key; empty: none.",
    )
    drain_seconds: float | None = Field(
        None,
        ge=0,
        le=300,
        description="Seconds for which a process that is told to end still takes calls, though it is not"
        " ready; empty: 1 if `LARES_MESH_LISTEN` is set, else 0.",
    )
    channels: Literal["in-process", "socket"] = Field(
        "in-process",
        description="How services of one process call each other; `socket`: at their `LARES_PEERS`.",
    )
    auth: bool = Field(True, description="Whether every client needs an API key.")

    export_python: Path | None = Field(
        None,
        description="Python for `lares model export`; empty: that of `.venv-export` next to the code.",
    )

    time_zone: str = Field("UTC", description="Time zone (IANA name) of cameras without one of their own.")
    entry_delay_seconds: float = Field(
        120,
        ge=0,
        le=3600,
        description="A change of the mode or of presence applies to events that began at most these seconds "
        "before, and a change of the mode can be backdated by as much.",
    )
    ingest_watch: bool = Field(
        True,
        description="Whether this ingest_svc may watch the cameras folder. Of several, one watches and the"
        " others stand by; with `false` it only receives uploads, pushes and FTP.",
    )
    watch_lease_seconds: float = Field(
        15,
        ge=0.5,
        le=3600,
        description="Seconds after which another ingest_svc watches the cameras folder in place of one that"
        " was killed or stopped.",
    )
    ingest_polling: bool = Field(
        False, description="Whether the cameras folder is polled, as network mounts need."
    )
    ingest_poll_seconds: Seconds = Field(1.0, description="Seconds between two polls.")
    ingest_settle_seconds: Seconds = Field(
        0.25, description="Seconds for which a file's size must not change before the file is taken."
    )
    ingest_originals: Literal["keep", "take"] = Field(
        "keep",
        description="Whether stored files stay in the cameras folder (`keep`) or are removed (`take`).",
    )
    ingest_clock_tolerance_seconds: Annotated[float, Field(gt=0, le=10**9)] | None = Field(
        None,
        description="Maximum seconds between a file's arrival and the time in it, in its name or of its"
        " modification for that to be believed; empty: all but a clock that is plainly unset or a day ahead"
        " is.",
    )
    ingest_ignore: Annotated[list[str], NoDecode] = Field(
        [],
        description="More names of files and folders to leave alone, with wildcards: `#old,*.bak,door/test`.",
    )
    ingest_link_targets: Annotated[list[str], NoDecode] = Field(
        [],
        description="Folders to which, or into which, a camera's folder may be a link: `/mnt/nas,/srv/a`;"
        " empty: such links are refused.",
    )
    ingest_max_bytes: int = Field(32 * 2**20, gt=0, description="Maximum size of a photo in bytes.")
    ingest_max_pixels: int = Field(64_000_000, gt=0, description="Maximum width x height of a photo or clip.")

    detect_batch: int = Field(
        8, ge=1, le=64, description="Maximum number of photos that are decoded and detected together."
    )

    detect_seconds: Seconds = Field(30, description="Maximum seconds for Triton's response to one photo.")

    watch_classes: Annotated[list[str], NoDecode] = Field(
        WATCHED.split(","),
        min_length=1,
        description="Watched classes: COCO names, in any spelling, or the detector's.",
    )
    watch_threshold: Score | None = Field(
        None, description="Minimum score of a detection; empty: the detector's own."
    )
    watch_thresholds: Annotated[dict[str, Score], NoDecode] = Field(
        {}, description="Minimum scores of single classes: `person=0.5,car=0.6`."
    )
    watch_fast_classes: Annotated[list[str], NoDecode] = Field(
        ["person"], description="Classes whose events are assessed at once."
    )
    watch_fast_threshold: Score | None = Field(
        None, description="Minimum score for that; empty: the detector's own."
    )

    clip_max_bytes: int = Field(2 * 2**30, gt=0, description="Maximum size of a clip in bytes.")
    clip_max_seconds: Seconds = Field(3600, description="Maximum length of a clip in seconds.")
    clip_frame_seconds: float = Field(
        2,
        ge=0.5,
        le=15,
        description="Seconds between frames of a clip that may be looked at; 0.5 s while something moves.",
    )
    clip_frames_per_minute: int = Field(
        30,
        ge=1,
        le=120,
        description="Frames that are looked at in each started minute of movement in a clip.",
    )
    clip_max_frames: int = Field(
        300, ge=2, le=1000, description="Maximum number of frames of one clip that are looked at."
    )
    clip_decoders: int = Field(
        1, ge=1, le=16, description="Maximum number of processes that decode clips at the same time."
    )
    clip_clock_seconds: float = Field(
        3,
        ge=0,
        le=60,
        description="Seconds by which the clocks of two media of one camera may differ.",
    )
    clip_pre_roll_seconds: float = Field(
        5, ge=0, le=60, description="Seconds before an event that its clip begins."
    )
    clip_post_roll_seconds: float = Field(
        5, ge=0, le=60, description="Seconds after an event that its clip ends."
    )
    motion_sensitivity: float = Field(
        0.5,
        ge=0.1,
        le=1,
        description="How small a change between two frames of a clip counts as movement: 1 the smallest.",
    )
    motion_threshold: float = Field(
        0.002,
        ge=0,
        le=1,
        description="Share of the picture that must change between two frames to count as movement.",
    )
    rendition_bytes: int = Field(
        5 * 2**30,
        gt=0,
        description="Maximum bytes of pictures, cuts and previews that are kept, the last used ones.",
    )

    ftp_listen: str = Field(
        "", description="Address at which cameras may send by FTP with TLS, `0.0.0.0:2121`; empty: none."
    )
    ftp_plaintext: bool = Field(
        False,
        description="Whether cameras may send by FTP without TLS: others in the network can read"
        " passwords and media.",
    )
    ftp_passive_ports: str = Field(
        "",
        description="Ports to which cameras connect for FTP data, `30000-30099`; empty: any free one.",
    )
    ftp_passive_address: str = Field(
        "",
        description="IPv4 address to which cameras connect for FTP data, if it is not the one that this"
        " machine has.",
    )
    upload_quota_bytes: int = Field(
        8 * 2**30,
        gt=0,
        description="Maximum bytes of one camera's uploads that are arriving or not finished.",
    )
    push_listen: str = Field("", description="Address at which cameras may push media by HTTP; empty: none.")

    event_gap_seconds: Seconds = Field(30, description="Maximum seconds between two detections of one event.")
    event_span_seconds: Seconds = Field(90, description="Maximum length of an event in seconds.")
    event_max_detections: int = Field(2000, ge=1, description="Maximum number of detections in one event.")
    severity_medium: int = Field(30, ge=1, le=100, description="Minimum score of severity MEDIUM.")
    severity_high: int = Field(60, ge=1, le=100, description="Minimum score of severity HIGH.")
    severity_critical: int = Field(85, ge=1, le=100, description="Minimum score of severity CRITICAL.")
    reason_concurrency: int = Field(
        4, ge=1, le=64, description="Maximum number of events that are assessed at the same time."
    )
    reason_prompt: str = Field("v2", description="Version of the prompt for an LLM.")
    reason_repeatable: bool = Field(
        False,
        description="Whether an LLM is asked for one event at a time, with a fixed seed and without"
        " llama.cpp's prompt cache, so that the same evidence leads to the same score more often; slower.",
    )
    reason_seconds: Seconds = Field(120, description="Maximum seconds for one assessment.")
    lease_seconds: Seconds = Field(
        15, description="Seconds after which a job that its reasoner does not renew is given to another."
    )

    # The earlier names by which settings were given.
    _renamed: tuple[str, ...] = PrivateAttr(())
    # The files in which settings were given.
    _files: dict[str, Path] = PrivateAttr({})

    _lists = field_validator(
        *("watch_classes", "watch_fast_classes", "ingest_ignore", "ingest_link_targets", "tls_names"),
        mode="before",
    )(split_list)
    _maps = field_validator("watch_thresholds", mode="before")(pairs_of)
    _targets = field_validator("peers", mode="before")(targets_of)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_the_default(cls, value: object, info: ValidationInfo) -> object:
        """Applies to all settings but lists, which may be empty."""
        default = cls.model_fields[info.field_name or ""].default
        return default if value == "" and not isinstance(default, list) else value

    @field_validator("watch_classes", "watch_fast_classes")
    @classmethod
    def _canonical_labels(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(map(canonical, value)))

    @field_validator("watch_thresholds")
    @classmethod
    def _unique_labels(cls, value: dict[str, float]) -> dict[str, float]:
        return unique_by_canonical(value.items())

    @field_validator(*SCHEMES)
    @classmethod
    def _known_scheme(cls, value: str, info: ValidationInfo) -> str:
        name = info.field_name or ""
        default = cls.model_fields[name].default
        if value != default and not value.startswith(SCHEMES[name]):
            # Without the value, which may hold a password.
            raise ValueError(f"must be {default or 'empty'} or begin with {' or '.join(SCHEMES[name])}")
        return value

    @field_validator("tls_names")
    @classmethod
    def _host_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not is_host_name(name):
                raise ValueError(f"{name!r} is neither a host's name nor an IP address")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if not is_time_zone(value):
            raise ValueError(f"{value!r} is not an IANA time zone, such as Europe/Berlin")
        return value

    @field_validator("ingest_ignore")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        for pattern in value:
            parts = pattern.strip("/").split("/")
            if not pattern.strip("/*?") or {"", ".", ".."} & set(parts):
                raise ValueError(f"{pattern!r} is not a name, nor a path below the cameras folder")
        return value

    @field_validator("ingest_link_targets")
    @classmethod
    def _absolute_folders(cls, value: list[str]) -> list[str]:
        for folder in value:
            if not folder.startswith("/"):
                raise ValueError(f"{folder!r} is not an absolute path")
        return value

    @field_validator(
        "gateway_listen",
        "grpc_listen",
        "kafka_listen",
        "mesh_listen",
        "ftp_listen",
        "push_listen",
        "metrics_listen",
    )
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("ftp_passive_ports")
    @classmethod
    def _port_range(cls, value: str) -> str:
        found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", value, re.ASCII)
        if value and not (found and 1024 <= int(found[1]) <= int(found[2]) <= 65535):
            raise ValueError(f"{value!r} is not a range of ports from 1024 to 65535, such as 30000-30099")
        return value

    @field_validator("ftp_passive_address")
    @classmethod
    def _ipv4(cls, value: str) -> str:
        try:
            return value and str(IPv4Address(value))
        except ValueError:
            raise ValueError(f"{value!r} is not an IPv4 address, such as 192.168.1.20") from None

    @field_validator("peers")
    @classmethod
    def _siblings(cls, value: dict[str, str]) -> dict[str, str]:
        for service in value:
            if service not in SIBLINGS:
                raise ValueError(f"{service!r} is not one of {', '.join(SIBLINGS)}")
        return {service: grpc_target(target) for service, target in value.items()}

    @model_validator(mode="after")
    def _severities_ascend(self) -> "Config":
        if not self.severity_medium < self.severity_high < self.severity_critical:
            raise ValueError(
                "LARES_SEVERITY_MEDIUM < LARES_SEVERITY_HIGH < LARES_SEVERITY_CRITICAL must hold"
            )
        return self

    @model_validator(mode="after")
    def _certificates_fit_the_mode(self) -> "Config":
        for certificate, key in (("tls_cert", "tls_key"), ("mesh_cert", "mesh_key")):
            if (getattr(self, certificate) is None) != (getattr(self, key) is None):
                raise ValueError(f"{setting(certificate)} and {setting(key)} must be set together")
        if self.tls_mode_used == "provided":
            if self.tls_cert is None:
                raise ValueError("LARES_TLS_MODE=provided needs LARES_TLS_CERT and LARES_TLS_KEY")
            return self
        unused = ("tls_cert", "tls_ca", "mesh_cert") if self.tls_mode else ("mesh_cert",)
        if given := [name for name in unused if getattr(self, name)]:
            raise ValueError(
                f"LARES_TLS_MODE={self.tls_mode_used} does not use {', '.join(map(setting, given))}:"
                " remove that, or set LARES_TLS_MODE=provided"
            )
        return self

    @model_validator(mode="after")
    def _credentials_fit(self) -> "Config":
        for name in CREDENTIALS:
            self._with_credentials(name)
        return self

    @model_validator(mode="after")
    def _bus_certificate_and_key(self) -> "Config":
        if (self.bus_cert is None) != (self.bus_key is None):
            raise ValueError("LARES_BUS_CERT and LARES_BUS_KEY must be set together")
        return self

    @property
    def tls_mode_used(self) -> Literal["disabled", "self_signed", "provided"]:
        return self.tls_mode or ("provided" if self.tls_cert else "disabled")

    @property
    def has_tls(self) -> bool:
        return self.tls_mode_used != "disabled"

    @property
    def renamed(self) -> dict[str, str]:
        """The settings that were given by an earlier name: that variable -> the current one."""
        return {setting(old): setting(RENAMED[old]) for old in self._renamed}

    @property
    def files(self) -> dict[str, Path]:
        """The files in which secret settings were given, by field."""
        return dict(self._files)

    def secret(self, name: str) -> Secret:
        """A URL of CREDENTIALS with its credentials. If a file holds one of them, it can be read again."""
        return Secret(self._with_credentials(name), lambda: self._with_credentials(name, again=True))

    def _with_credentials(self, name: str, *, again: bool = False) -> str:
        values = {field: str(getattr(self, field)) for field in (name, *CREDENTIALS[name])}
        if again:
            values |= {
                field: read_secret_file(self._files[field]) for field in values.keys() & self._files.keys()
            }
        return with_credentials(name, values)

    @property
    def ftp_passive_range(self) -> range | None:
        first, _, last = self.ftp_passive_ports.partition("-")
        return range(int(first), int(last) + 1) if last else None

    @property
    def cameras_folder(self) -> Path:
        return self.home / "cameras"


def load_config(**overrides: object) -> Config:
    """Reads the settings. Raises Invalid BAD_SETTING, with a line for each setting that is not valid or does
    not exist."""
    _check_env_file(Path(Config.model_config.get("env_file") or ""))  # type: ignore[arg-type]
    variables = _variables()
    files, unreadable = _secret_files(variables, overrides)
    lines = [*_unknown(variables), *_set_twice(variables), *unreadable]
    contents = {name: content for name, (_, content) in files.items()}
    renamed = {old: new for old, new in RENAMED.items() if old in variables}
    aliases = {new: variables[old] for old, new in renamed.items()}
    try:
        config = Config(**(aliases | contents | overrides))  # type: ignore[arg-type]
    except ValidationError as error:
        given = {new: old for old, new in renamed.items()}
        for e in error.errors():
            names = [given.get(str(part), str(part)) for part in e["loc"][:1]]
            lines.append(f"{setting(*names)}: {e['msg'].removeprefix('Value error, ')}")
    if lines:
        raise Invalid("\n".join(lines), "BAD_SETTING")
    config._renamed = tuple(renamed)
    config._files = {name: path for name, (path, _) in files.items()}
    return config


def _secret_files(
    variables: Mapping[str, str], overrides: Container[str]
) -> tuple[dict[str, tuple[Path, str]], list[str]]:
    """The settings that are given by `LARES_..._FILE`, with the file and its content, and a line for each
    that cannot be used."""
    found: dict[str, tuple[Path, str]] = {}
    lines = []
    for name in filter(is_secret, Config.model_fields):
        given = variables.get(f"{name}_file")
        if not given or name in overrides:
            continue
        try:
            if variables.get(name):
                raise ValueError(f"{setting(name)} is set, too: remove one of them")
            path = absolute(Path(given))
            found[name] = path, read_secret_file(path)
        except ValueError as error:
            lines.append(f"{setting(name)}_FILE: {error}")
    return found, lines


def _check_env_file(file: Path) -> None:
    """Raises Invalid (BAD_SETTING) if `file` exists and is not text in UTF-8 without a byte-order mark."""
    try:
        content = file.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", "BAD_SETTING") from None
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    if not encoding:
        try:
            content.decode()
        except UnicodeDecodeError:
            encoding = "another encoding"
        if b"\0" in content:
            encoding = "UTF-16 or UTF-32"
    if encoding:
        raise Invalid(
            f"{file} is text in {encoding}: save it as UTF-8 without a byte-order mark", "BAD_SETTING"
        )


def _variables() -> dict[str, str]:
    """All `LARES_*` variables, by field name; the environment takes precedence over `.env`."""
    variables = {**DotEnvSettingsSource(Config).env_vars, **EnvSettingsSource(Config).env_vars}
    return {
        name.removeprefix("lares_"): value or ""
        for name, value in variables.items()
        if name.startswith("lares_")
    }


def _unknown(variables: Iterable[str]) -> list[str]:
    """A line for each variable that is not a setting; most are misspelt."""
    return [
        f"{setting(name)}: there is no such setting; the closest is {setting(*_closest(name))}"
        for name in sorted(variables)
        if name not in Config.model_fields
        and name not in RENAMED
        and not (name.endswith("_file") and is_secret(name.removesuffix("_file")))
    ]


def _set_twice(variables: Container[str]) -> list[str]:
    """A line for each setting that is set by an earlier name and by its current name."""
    return [
        f"{setting(old)}: it is now called {setting(new)}, which is set, too: remove {setting(old)}"
        for old, new in RENAMED.items()
        if old in variables and new in variables
    ]


def _closest(name: str) -> list[str]:
    names = get_close_matches(name, [*Config.model_fields, *RENAMED], 1, cutoff=0.0)
    return [RENAMED.get(found, found) for found in names]


def is_secret(name: str) -> bool:
    """Whether a field may also be given by a file."""
    field = Config.model_fields.get(name)
    return field is not None and not {SECRET, SECRET_URL}.isdisjoint(field.metadata)


def is_password(name: str) -> bool:
    """Whether all of a field's value is secret."""
    return SECRET in Config.model_fields[name].metadata


def setting(name: str = "*") -> str:
    """The environment variable of a field."""
    return f"LARES_{name.upper()}"


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Adds the setting's name to an Invalid or a Conflict that the block raises."""
    try:
        yield
    except (Invalid, Conflict) as problem:
        raise type(problem)(
            f"{setting(field)}: {problem.message}", problem.reason, **problem.metadata
        ) from None

"""Secrets that are given by files and may be replaced while Lares runs."""

import os
from pathlib import Path

import pytest

from mesh.blobs.s3 import S3Bucket
from mesh.bus.address import KafkaAddress
from mesh.config import Config, is_secret, load_config
from mesh.problems import Invalid
from mesh.secret import Secret, read_secret_file
from mesh.secret_settings import CREDENTIALS

SECRETS = [name for name in Config.model_fields if is_secret(name)]
VALUES = {
    "database_url": "postgresql://me:hunter2@127.0.0.1/lares",
    "bus_url": "kafka://me:hunter2@127.0.0.1:9092",
    "blobs_url": "s3://key:hunter2@photos",
    "detector_url": "triton://:hunter2@127.0.0.1:8001/model",
    "reasoner_url": "openai+http://:hunter2@127.0.0.1/v1?model=m",
    "database_password": "hunter2",
    "bus_password": "hunter2",
    "blobs_key": "key",
    "blobs_secret": "hunter2",
    "detector_token": "hunter2",
    "reasoner_token": "hunter2",
}
# What a credential alone needs beside it.
BESIDE = {
    "database_password": {"database_url": "postgresql://me@127.0.0.1/lares"},
    "bus_password": {"bus_url": "kafka://me@127.0.0.1:9092"},
    "blobs_key": {"blobs_url": "s3://photos", "blobs_secret": "other"},
    "blobs_secret": {"blobs_url": "s3://photos", "blobs_key": "key"},
    "detector_token": {"detector_url": "triton://127.0.0.1:8001/model"},
    "reasoner_token": {"reasoner_url": "openai+http://127.0.0.1/v1?model=m"},
}


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def give_file(monkeypatch: pytest.MonkeyPatch, name: str, file: Path) -> None:
    for other, value in BESIDE.get(name, {}).items():
        monkeypatch.setenv(f"LARES_{other.upper()}", value)
    monkeypatch.setenv(f"LARES_{name.upper()}_FILE", str(file))


def test_every_url_and_its_credentials_are_secrets() -> None:
    assert set(SECRETS) == {*CREDENTIALS, *(field for fields in CREDENTIALS.values() for field in fields)}
    assert set(SECRETS) == set(VALUES)


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_holds_what_the_setting_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / "secret"
    give_file(monkeypatch, name, file)
    for end in ("", "\n", "\r\n"):
        file.write_bytes(VALUES[name].encode() + end.encode())
        config = load_config()
        assert getattr(config, name) == VALUES[name]
        assert config.files == {name: file}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"  \n", "is empty"),
        (b"hunter2\0", "must hold one line"),
        (b"hunter2\nhunter3\n", "must hold one line"),
        (b"\xef\xbb\xbfhunter2", "must hold one line"),
        (b"hunter2\xff", "is not text in UTF-8"),
        ("hunter2".encode("utf-16"), "is not text in UTF-8"),
        (b"hunter2" * 10_000, "has more than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, reason: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    give_file(monkeypatch, name, file)
    with pytest.raises(Invalid, match=rf"^LARES_{name.upper()}_FILE: {file} {reason}") as invalid:
        load_config()
    assert "hunter2" not in invalid.value.message


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "no folder"])
def test_a_file_that_cannot_be_read_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "secret"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "no folder":
        file.write_text("hunter2")
        file = file / "below"
    give_file(monkeypatch, "bus_url", file)
    reasons = {"missing": "No such", "folder": "Is a dir", "pipe": "not a regular", "no folder": "Not a dir"}
    with pytest.raises(Invalid, match=rf"LARES_BUS_URL_FILE: .*{reasons[kind]}"):
        load_config()


def test_a_setting_and_its_file_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(VALUES["bus_url"])
    monkeypatch.setenv("LARES_BUS_URL_FILE", str(tmp_path / "secret"))
    (tmp_path / ".env").write_text("LARES_BUS_URL=kafka://h:9092\n")
    with pytest.raises(Invalid, match="LARES_BUS_URL_FILE: LARES_BUS_URL is set, too: remove one"):
        load_config()
    (tmp_path / ".env").write_text("LARES_BUS_URL=\n")
    assert load_config().bus_url == VALUES["bus_url"]


def test_other_settings_have_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_TIME_ZONE_FILE", "/etc/timezone")
    with pytest.raises(Invalid, match="LARES_TIME_ZONE_FILE: there is no such setting"):
        load_config()


def test_a_file_is_named_in_dotenv_and_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{VALUES['bus_url']}\n")
    (tmp_path / ".env").write_text("LARES_BUS_URL_FILE=secret\n")
    assert load_config().bus_url == VALUES["bus_url"]
    assert load_config(bus_url="kafka://other:1").secret("bus_url").value == "kafka://other:1"


PASSWORD = "a/b@c:d?e#f %41"


@pytest.mark.parametrize(
    ("name", "credentials", "url", "whole"),
    [
        (
            "database_url",
            {"database_password": PASSWORD},
            "postgresql://me@h,i:1/db?host=/run",
            "postgresql://me:{}@h,i:1/db?host=/run",
        ),
        ("bus_url", {"bus_password": PASSWORD}, "kafka://me@h:1,i:2", "kafka://me:{}@h:1,i:2"),
        (
            "blobs_url",
            {"blobs_key": "k/k", "blobs_secret": PASSWORD},
            "s3://photos/me@home?region=a",
            "s3://k%2Fk:{}@photos/me@home?region=a",
        ),
        ("detector_url", {"detector_token": PASSWORD}, "triton://h:1,i:2/m", "triton://:{}@h:1,i:2/m"),
        (
            "reasoner_url",
            {"reasoner_token": PASSWORD},
            "openai+https://h/v1?model=m",
            "openai+https://:{}@h/v1?model=m",
        ),
    ],
)
def test_credentials_become_part_of_the_url(
    name: str, credentials: dict[str, str], url: str, whole: str
) -> None:
    quoted = "a%2Fb%40c%3Ad%3Fe%23f%20%2541"
    assert load_config(**{name: url}, **credentials).secret(name).value == whole.format(quoted)
    if name == "bus_url":
        assert KafkaAddress.parse(whole.format(quoted)).password == PASSWORD
    if name == "blobs_url":
        assert S3Bucket.parse(whole.format(quoted)).secret == PASSWORD


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"database_password": "hunter2"}, "LARES_DATABASE_URL names no server"),
        ({"database_password": "hunter2", "database_url": "postgresql://h/db"}, "names no user"),
        ({"database_password": "hunter2", "database_url": "postgresql://me:x@h/db"}, "contains credentials"),
        ({"bus_password": "hunter2", "bus_url": "kafka://h:1"}, "names no user"),
        ({"blobs_key": "hunter2", "blobs_url": "s3://photos"}, "LARES_BLOBS_KEY and LARES_BLOBS_SECRET must"),
        (
            {"blobs_key": "hunter2", "blobs_secret": "x", "blobs_url": "s3://a:b@photos"},
            "contains credentials",
        ),
        ({"blobs_key": "hunter2", "blobs_secret": "x", "blobs_url": "file:///a"}, "names no server"),
        ({"detector_token": "hunter2"}, "names no server"),
        ({"reasoner_token": "hunter2"}, "names no server"),
        (
            {"reasoner_token": "hunter2", "reasoner_url": "openai+http://:k@h/v1?model=m"},
            "contains credentials",
        ),
    ],
)
def test_credentials_without_a_place_are_refused(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as invalid:
        load_config(**settings)
    assert "hunter2" not in invalid.value.message


def test_a_refused_secret_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two callers that were refused with the same value both learn of the new one."""
    file = tmp_path / "secret"
    file.write_text("old\n")
    give_file(monkeypatch, "bus_password", file)
    secret = load_config().secret("bus_url")
    old = secret.value
    assert old == "kafka://me:old@127.0.0.1:9092"
    assert not secret.renewed(old)
    file.write_text("new\n")
    assert secret.value == old  # until it is refused
    assert secret.renewed(old)
    assert secret.renewed(old)
    assert secret.value == "kafka://me:new@127.0.0.1:9092"
    assert not secret.renewed(secret.value)


@pytest.mark.parametrize("content", [None, b"", b"\0"])
def test_a_secret_stays_while_its_file_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """As while it is being replaced."""
    file = tmp_path / "secret"
    file.write_text("kafka://me:old@h:1")
    give_file(monkeypatch, "bus_url", file)
    secret = load_config().secret("bus_url")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert not secret.renewed(secret.value)
    assert secret.value == "kafka://me:old@h:1"
    file.write_text("kafka://me:new@h:1")
    assert secret.renewed("kafka://me:old@h:1")


def test_a_new_value_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("kafka://me:old@h:1")
    secret = Secret(read_secret_file(file), lambda: read_secret_file(file))
    address = secret.parsed(KafkaAddress.parse)
    old = address.value
    file.write_text("kafka://nonsense")
    assert not address.renewed(old)
    assert address.value is old
    file.write_text("kafka://me:new@h:1")
    assert address.renewed(old)
    assert address.renewed(old)
    assert address.value.password == "new"
    assert not address.renewed(address.value)


def test_a_fixed_secret_is_never_renewed() -> None:
    secret = Secret.of("rules:")
    assert Secret.of(secret) is secret
    assert not secret.renewed("rules:")
    assert "rules" not in repr(secret)

from pathlib import Path

import pytest

from mesh.config import Config, load_config, split_address
from mesh.problems import Invalid


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_hold_together(tmp_path: Path) -> None:
    config = load_config()
    assert config.home == tmp_path / "data"
    assert config.cameras_folder == tmp_path / "data" / "cameras"
    assert "person" in config.detect_classes
    assert config.auth


def test_lists_and_maps_are_read_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_DETECT_CLASSES", "person, dog")
    monkeypatch.setenv("LARES_DETECT_THRESHOLDS", "person=0.5, dog=0.25")
    monkeypatch.setenv("LARES_PEERS", "store=127.0.0.1:7001")
    config = load_config()
    assert config.detect_classes == ["person", "dog"]
    assert config.detect_thresholds == {"person": 0.5, "dog": 0.25}
    assert config.peers == {"store": "127.0.0.1:7001"}


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("LARES_TIME_ZONE=Europe/Berlin\nLARES_LOG_LEVEL=debug\n")
    monkeypatch.setenv("LARES_LOG_LEVEL", "error")
    config = load_config()
    assert (config.time_zone, config.log_level) == ("Europe/Berlin", "error")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("LARES_TIME_ZONE", "Mars/Olympus"),
        ("LARES_GRPC_LISTEN", "localhost"),
        ("LARES_GATEWAY_LISTEN", "localhost:99999"),
        ("LARES_INGEST_ORIGINALS", "burn"),
        ("LARES_DETECT_THRESHOLD", "1.5"),
        ("LARES_DETECT_THRESHOLDS", "person=high"),
        ("LARES_DETECT_THRESHOLDS", "person=50"),
        ("LARES_DETECT_THRESHOLDS", "person=nan"),
        ("LARES_DETECT_THRESHOLDS", "person"),
        ("LARES_DETECT_CLASSES", ""),
        ("LARES_EVENT_GAP_SECONDS", "0"),
        ("LARES_EVENT_GAP_SECONDS", "inf"),
        ("LARES_EVENT_GAP_SECONDS", "1e300"),
        ("LARES_DATABASE_URL", "foo"),
        ("LARES_DATABASE_URL", "postgresql://lares@host/db"),
        ("LARES_BUS_URL", "foo"),
        ("LARES_BLOBS_URL", "ftp://host/x"),
        ("LARES_BLOBS_URL", "file://media/photos"),
        ("LARES_PEERS", "x"),
        ("LARES_PEERS", "store=x"),
        ("LARES_PEERS", "stroe=127.0.0.1:1"),
        ("LARES_MESH_LISTEN", "foo"),
        ("LARES_GRPC_LISTEN", "a..b:80"),
        ("LARES_TLS_CERT", "/nowhere/cert.pem"),
        ("LARES_TLS_KEY", "/nowhere/key.pem"),
        ("LARES_TLS_CERT", __file__),  # without its key
        ("LARES_DETECTOR_CA", "/nowhere/ca.pem"),
        ("LARES_CACHE", "~nobody-of-this-name/cache"),
    ],
)
def test_an_error_names_the_setting(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(Invalid, match=setting) as invalid:
        load_config()
    assert invalid.value.reason == "BAD_SETTING"


def test_a_url_that_does_not_fit_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_DATABASE_URL", "postgres://lares:hunter2@host/db")
    with pytest.raises(Invalid, match="LARES_DATABASE_URL") as invalid:
        load_config()
    assert "hunter2" not in invalid.value.message


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("LARES_DETECT_TRESHOLD", "LARES_DETECT_THRESHOLD"), ("lares_grpc_listn", "LARES_GRPC_LISTEN")],
)
def test_what_is_misspelt_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    said = rf"^{name.upper()}: there is no such setting; the nearest is {nearest}$"
    with monkeypatch.context() as environment:
        environment.setenv(name, "1")
        with pytest.raises(Invalid, match=said):
            load_config()
    load_config()
    (tmp_path / ".env").write_text(f"OTHERS={name}\n{name}=1\n")
    with pytest.raises(Invalid, match=said):
        load_config()


def test_empty_is_the_default_but_for_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        f"LARES_{name.upper()}"
        for name in Config.model_fields.keys() - {"detect_classes", "detect_fast_classes"}
    ]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    default = load_config()
    for name in names:
        monkeypatch.setenv(name, "")
    assert load_config() == default
    monkeypatch.setenv("LARES_DETECT_FAST_CLASSES", "")
    assert load_config().detect_fast_classes == []


def test_severities_must_ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_SEVERITY_HIGH", "90")
    with pytest.raises(Invalid, match="LARES_SEVERITY_HIGH"):
        load_config()


def test_addresses_of_either_kind() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("localhost:0") == ("localhost", 0)

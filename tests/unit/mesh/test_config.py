from pathlib import Path

import pytest

from mesh.config import load_config, split_address
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
        ("LARES_EVENT_GAP_SECONDS", "0"),
    ],
)
def test_an_error_names_the_setting(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(Invalid, match=setting) as invalid:
        load_config()
    assert invalid.value.reason == "BAD_SETTING"


def test_severities_must_ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_SEVERITY_HIGH", "90")
    with pytest.raises(Invalid, match="LARES_SEVERITY_HIGH"):
        load_config()


def test_addresses_of_either_kind() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("localhost:0") == ("localhost", 0)

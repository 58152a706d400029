"""`lares config` prints a valid `.env` file."""

from pathlib import Path

import pytest

from deploy.cli import print_config
from mesh.config import Config, load_config

SETTINGS = {
    "HOME": 'it\'s my "home" #1',
    "BUS_URL": "kafka://h:9092,i:9092",
    "BLOBS_URL": "file:///a%20b",
    "PEERS": "store=127.0.0.1:7001,ingest=[::1]:7002",
    "WATCH_THRESHOLD": "0.25",
    "WATCH_THRESHOLDS": "person=0.5,traffic light=0.25",
    "WATCH_FAST_CLASSES": "",
    "GRPC_REFLECTION": "true",
    "EVENT_GAP_SECONDS": "0.5",
}


@pytest.mark.parametrize("settings", [{}, SETTINGS])
def test_the_output_is_read_back_unchanged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(f"LARES_{name}", value)
        config = load_config()
    print_config(config)
    (tmp_path / ".env").write_text(capsys.readouterr().out)
    assert load_config() == config
    assert len((tmp_path / ".env").read_text().splitlines()) == len(Config.model_fields)


def test_a_url_with_a_redacted_password_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    print_config(load_config(database_url="postgresql+asyncpg://me:pa/ss@h/db", bus_url="kafka://me:a?b@h:9"))
    (tmp_path / ".env").write_text(capsys.readouterr().out)
    config = load_config()
    assert config.database_url == "postgresql+asyncpg://me:***@h/db"
    assert config.bus_url == "kafka://me:***@h:9"

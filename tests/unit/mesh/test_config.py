import codecs
from pathlib import Path

import pytest

from mesh.addresses import split_address
from mesh.config import Config, load_config
from mesh.problems import Invalid


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_valid(tmp_path: Path) -> None:
    config = load_config()
    assert config.home == tmp_path / "data"
    assert config.cameras_folder == tmp_path / "data" / "cameras"
    assert "person" in config.watch_classes
    assert config.auth


def test_lists_and_maps_are_read_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_WATCH_CLASSES", "person, dog")
    monkeypatch.setenv("LARES_WATCH_THRESHOLDS", "person=0.5, dog=0.25")
    monkeypatch.setenv("LARES_PEERS", "store=127.0.0.1:7001")
    config = load_config()
    assert config.watch_classes == ["person", "dog"]
    assert config.watch_thresholds == {"person": 0.5, "dog": 0.25}
    assert config.peers == {"store": "dns:///127.0.0.1:7001"}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("LARES_TIME_ZONE=Europe/Berlin\n".encode("utf-16"), "UTF-16"),
        ("LARES_TIME_ZONE=Europe/Berlin\n".encode("utf-16-be"), "UTF-16 or UTF-32"),
        (codecs.BOM_UTF16_BE + "LARES_TIME_ZONE=Europe/Berlin\n".encode("utf-16-be"), "UTF-16"),
        ("LARES_TIME_ZONE=Europe/Berlin\n".encode("utf-32"), "UTF-32"),
        ("LARES_TIME_ZONE=Europe/Berlin\n".encode("utf-8-sig"), "UTF-8 with a byte-order mark"),
        ("# Küche\nLARES_TIME_ZONE=Europe/Berlin\n".encode("latin-1"), "another encoding"),
    ],
)
def test_dotenv_in_another_encoding_is_a_clear_error(tmp_path: Path, content: bytes, encoding: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(Invalid, match=rf"^\.env is text in {encoding}: save it as UTF-8") as invalid:
        load_config()
    assert invalid.value.reason == "BAD_SETTING"
    (tmp_path / ".env").write_text("# Küche\nLARES_TIME_ZONE=Europe/Berlin\n")
    assert load_config().time_zone == "Europe/Berlin"


def test_a_folder_called_dotenv_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_config().time_zone == "UTC"


def test_labels_are_canonical(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_WATCH_CLASSES", "Person, motorbike,motorcycle, TrafficLight, Forklift_2")
    monkeypatch.setenv("LARES_WATCH_FAST_CLASSES", "PERSON")
    monkeypatch.setenv("LARES_WATCH_THRESHOLDS", "motorbike=0.5, Person=0.25")
    config = load_config()
    assert config.watch_classes == ["person", "motorcycle", "traffic light", "forklift 2"]
    assert config.watch_fast_classes == ["person"]
    assert config.watch_thresholds == {"motorcycle": 0.5, "person": 0.25}


@pytest.mark.parametrize(
    "value", ["person=0.5,person=0.6", "person=0.5,Person=0.5", "motorbike=1,motorcycle=0"]
)
def test_two_thresholds_of_one_label_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LARES_WATCH_THRESHOLDS", value)
    with pytest.raises(Invalid, match=r"LARES_WATCH_THRESHOLDS: .*(there twice|are the same)"):
        load_config()


def test_passive_ports_are_a_range() -> None:
    assert load_config().ftp_passive_range is None
    assert load_config(ftp_passive_ports="30000-30002").ftp_passive_range == range(30000, 30003)


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
        ("LARES_FTP_LISTEN", "2121"),
        ("LARES_FTP_PASSIVE_PORTS", "30000"),
        ("LARES_FTP_PASSIVE_PORTS", "30099-30000"),
        ("LARES_FTP_PASSIVE_PORTS", "80-90"),
        ("LARES_FTP_PASSIVE_PORTS", "60000-70000"),
        ("LARES_FTP_PASSIVE_ADDRESS", "ftp.example.org"),
        ("LARES_FTP_PASSIVE_ADDRESS", "fd00::1"),
        ("LARES_INGEST_ORIGINALS", "burn"),
        ("LARES_WATCH_THRESHOLD", "1.5"),
        ("LARES_WATCH_THRESHOLDS", "person=high"),
        ("LARES_WATCH_THRESHOLDS", "person=50"),
        ("LARES_WATCH_THRESHOLDS", "person=nan"),
        ("LARES_WATCH_THRESHOLDS", "person"),
        ("LARES_WATCH_THRESHOLDS", "=0.5"),
        ("LARES_WATCH_CLASSES", ""),
        ("LARES_EVENT_GAP_SECONDS", "0"),
        ("LARES_EVENT_GAP_SECONDS", "inf"),
        ("LARES_INGEST_CLOCK_TOLERANCE_SECONDS", "inf"),
        ("LARES_INGEST_CLOCK_TOLERANCE_SECONDS", "1e300"),
        ("LARES_EVENT_GAP_SECONDS", "1e300"),
        ("LARES_DATABASE_URL", "foo"),
        ("LARES_DATABASE_URL", "mysql://lares@host/db"),
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
        ("LARES_MESH_KEY", __file__),  # without its certificate
        ("LARES_TLS_MODE", "provided"),  # without a certificate
        ("LARES_TLS_MODE", "self-signed"),
        ("LARES_TLS_NAMES", "nas.lan,böse.lan"),
        ("LARES_TLS_NAMES", "nas.lan:8000"),
        ("LARES_DETECTOR_CA", "/nowhere/ca.pem"),
        ("LARES_CACHE", "~nobody-of-this-name/cache"),
    ],
)
def test_an_error_names_the_setting(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(Invalid, match=setting) as invalid:
        load_config()
    assert invalid.value.reason == "BAD_SETTING"


@pytest.mark.parametrize("mode", ["disabled", "self_signed"])
@pytest.mark.parametrize("given", ["tls_cert tls_key", "tls_ca", "mesh_cert mesh_key"])
def test_certificates_that_the_mode_does_not_use_are_refused(mode: str, given: str) -> None:
    with pytest.raises(Invalid, match=f"LARES_TLS_MODE={mode} .*{given.split()[0].upper()}"):
        load_config(tls_mode=mode, **dict.fromkeys(given.split(), __file__))
    with pytest.raises(Invalid, match="LARES_MESH_CERT"):
        load_config(mesh_cert=__file__, mesh_key=__file__)


def test_a_certificate_turns_tls_on() -> None:
    assert load_config().tls_mode_used == "disabled"
    assert load_config(tls_cert=__file__, tls_key=__file__).tls_mode_used == "provided"
    assert load_config(tls_mode="self_signed").has_tls
    assert not load_config(tls_mode="disabled").has_tls


def test_a_url_that_does_not_fit_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_DATABASE_URL", "mysql://lares:hunter2@host/db")
    with pytest.raises(Invalid, match="LARES_DATABASE_URL") as invalid:
        load_config()
    assert "hunter2" not in invalid.value.message


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("LARES_WATCH_TRESHOLD", "LARES_WATCH_THRESHOLD"),
        ("LARES_DETECT_TRESHOLD", "LARES_WATCH_THRESHOLD"),
        ("lares_grpc_listn", "LARES_GRPC_LISTEN"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, closest: str
) -> None:
    message = rf"^{name.upper()}: there is no such setting; the closest is {closest}$"
    with monkeypatch.context() as environment:
        environment.setenv(name, "1")
        with pytest.raises(Invalid, match=message):
            load_config()
    load_config()
    (tmp_path / ".env").write_text(f"OTHERS={name}\n{name}=1\n")
    with pytest.raises(Invalid, match=message):
        load_config()


def test_an_empty_value_is_the_default_except_for_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        f"LARES_{name.upper()}"
        for name in Config.model_fields.keys() - {"watch_classes", "watch_fast_classes"}
    ]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    default = load_config()
    for name in names:
        monkeypatch.setenv(name, "")
    assert load_config() == default
    monkeypatch.setenv("LARES_WATCH_FAST_CLASSES", "")
    assert load_config().watch_fast_classes == []


def test_severities_must_ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_SEVERITY_HIGH", "90")
    with pytest.raises(Invalid, match="LARES_SEVERITY_HIGH"):
        load_config()


def test_addresses_with_names_and_ipv6() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("localhost:0") == ("localhost", 0)


OLD = {
    "LARES_DETECT_CLASSES": "person, dog",
    "LARES_DETECT_THRESHOLD": "0.25",
    "LARES_DETECT_THRESHOLDS": "person=0.5",
    "LARES_DETECT_FAST_CLASSES": "",
    "LARES_DETECT_FAST_THRESHOLD": "0.75",
}


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_earlier_names_of_settings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in OLD.items()))
    else:
        for name, value in OLD.items():
            monkeypatch.setenv(name, value)
    config = load_config()
    assert config.watch_classes == ["person", "dog"]
    assert (config.watch_threshold, config.watch_thresholds) == (0.25, {"person": 0.5})
    assert (config.watch_fast_classes, config.watch_fast_threshold) == ([], 0.75)
    assert config.renamed == {name: name.replace("DETECT", "WATCH") for name in OLD}
    assert load_config(watch_threshold=0.5).watch_threshold == 0.5


def test_both_names_of_a_setting_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config().renamed == {}
    (tmp_path / ".env").write_text("LARES_DETECT_THRESHOLD=0.5\n")
    monkeypatch.setenv("LARES_WATCH_THRESHOLD", "0.5")
    with pytest.raises(Invalid, match="LARES_DETECT_THRESHOLD: it is now called LARES_WATCH_THRESHOLD"):
        load_config()


def test_an_error_names_the_setting_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARES_DETECT_THRESHOLD", "1.5")
    with pytest.raises(Invalid, match="LARES_DETECT_THRESHOLD: Input should be less than"):
        load_config()

"""The compose files are valid, and fit the code, the images and each other."""

import copy
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from deploy.mesh_factory import guard_listening
from deploy.targets import TARGETS
from mesh.addresses import split_address
from tests.support.compose import ALONE, COMPOSE, WHOLE, Service, composed, env_file, of_lares, published
from tests.support.container_config import config_of
from tests.support.npm import npm_program

FILES = (WHOLE, ALONE)
ENV_FILES = sorted(COMPOSE.glob("*.env"))
DCLINT = Path(__file__).parents[1] / "support" / "dclint"
# In the order of their starts: what a service waits for comes before it.
JOBS = ("lares-migrate", "lares-topics")


def services(**variables: str) -> dict[str, Service]:
    found: dict[str, Service] = composed(WHOLE, variables)["services"]
    return found


# Validity


def judged(*files: Path) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.compose-spec", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def linted(*files: Path) -> "subprocess.CompletedProcess[str]":
    command = [*npm_program(DCLINT, "dclint"), "--config", str(COMPOSE / ".dclintrc.yaml"), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_files_have_composes_schema() -> None:
    result = judged(*FILES)
    assert result.returncode == 0, result.stdout


def test_the_files_are_linted() -> None:
    result = linted(*FILES)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("healthchek", {}),
        ("depends_on", {"x": {"condition": "healthy"}}),
        ("mem_limit", []),
        ("cap_drop", "ALL"),
    ],
)
def test_a_mistake_is_noticed(tmp_path: Path, path: str, value: Any) -> None:
    project = copy.deepcopy(composed(WHOLE))
    project["services"]["lares-store"][path] = value
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(yaml.safe_dump(project))
    assert judged(wrong).returncode != 0


def test_the_linter_notices_a_port_for_everybody(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text('name: x\nservices:\n  a:\n    image: a:1\n    ports: ["8000:8000"]\n')
    result = linted(wrong)
    assert result.returncode == 1
    assert "no-unbound-port-interfaces" in result.stdout


# Settings and parts


@pytest.mark.parametrize(
    "variables", [{}, *map(env_file, ENV_FILES)], ids=["", *(file.stem for file in ENV_FILES)]
)
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_lares_accepts_the_settings_of_every_container(
    file: Path, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_lares(composed(file, variables))
    for name, service in found.items():
        config = config_of(service.get("environment", {}), tmp_path, monkeypatch)
        guard_listening(config)
        if name == "lares-detect":
            assert config.detector_url == variables.get("DETECTOR_URL", "litert:efficientdet-lite0")
        if name == "lares-reason":
            assert config.reasoner_url == variables.get("REASONER_URL", "rules:")
    assert len(found) == (7 if file == WHOLE else 1)


@pytest.mark.parametrize("file", ENV_FILES, ids=lambda path: path.stem)
def test_the_models_of_a_profile_run_in_it(file: Path) -> None:
    variables = env_file(file)
    running = {
        name: service
        for name, service in services(**variables).items()
        if variables["COMPOSE_PROFILES"] in service.get("profiles", [variables["COMPOSE_PROFILES"]])
    }
    aliases = {
        alias
        for service in running.values()
        if isinstance(service.get("networks"), dict)
        for alias in service["networks"]["inside"]["aliases"]
    }
    for setting in ("DETECTOR_URL", "REASONER_URL"):
        if url := variables.get(setting):
            host = url.partition("://")[2].partition(":")[0]
            assert host in running.keys() | aliases, f"{setting} names {host}"


def test_tensorrt_llm_is_started_as_models_md_has_it() -> None:
    """It gives answers in a form only if it is told how, and does not tell its context and its slots."""
    variables = env_file(COMPOSE / "tensorrt-llm.env")
    server = services(**variables)["tensorrt-llm"]
    options = dict(zip(server["command"][:-1], server["command"][1:], strict=True))
    (mounted,) = (
        volume.partition(":")[0]
        for volume in server["volumes"]
        if volume.endswith(f":{options['--extra_llm_api_options']}:ro")
    )
    assert yaml.safe_load((COMPOSE / mounted).read_text())["guided_decoding_backend"] == "xgrammar"
    url = parse_qs(variables["REASONER_URL"].partition("?")[2])
    assert url["server"] == ["trtllm"]
    assert url["context"] == [options["--max_seq_len"]]
    assert url["slots"] == [options["--max_batch_size"]]


def test_triton_has_a_folder_of_its_own() -> None:
    """It ends if it cannot load every folder that it finds; that of a language model is beside its own."""
    triton = services()["triton"]
    assert "--model-repository=/models/triton" in triton["command"]
    assert "./models:/models:ro" in triton["volumes"]


def test_every_target_is_a_service() -> None:
    found = services()
    for target in TARGETS:
        service = found[f"lares-{target}"]
        assert service["command"] == ["up", "--target", target]
        assert service["image"] == f"lares-{target}:0.1.0"
    assert (
        services(CLIPS="-clips", REGISTRY="here/", VERSION="2")["lares-detect"]["image"]
        == "here/lares-detect-clips:2"
    )


def test_peers_are_services_that_listen_there() -> None:
    found = services()
    for peer in found["lares-gateway"]["environment"]["LARES_PEERS"].split(","):
        name, target = peer.split("=")
        host, port = split_address(target.removeprefix("dns:///"))
        assert host == f"lares-{name}"
        assert port == split_address(found[host]["environment"]["LARES_MESH_LISTEN"])[1]


def test_certificates_have_the_names_of_all_services() -> None:
    for service in of_lares(composed(WHOLE)).values():
        names = service["environment"].get("LARES_TLS_NAMES")
        assert names is None or {f"lares-{target}" for target in TARGETS} <= set(names.split(","))


def test_ports_lead_to_where_services_listen() -> None:
    for name, service in of_lares(composed(WHOLE)).items():
        listening = {
            split_address(value)[1]
            for setting, value in service["environment"].items()
            if setting.endswith("_LISTEN")
        }
        assert published(service).keys() <= listening, name


# Start, secrets, safety


def test_the_start_is_in_the_order_of_health() -> None:
    found = services()
    migrate, topics = (found[job]["depends_on"] for job in JOBS)
    assert migrate == {"postgres": {"condition": "service_healthy"}}
    assert topics == {"kafka": {"condition": "service_healthy"}}
    assert {job: found["lares-store"]["depends_on"][job]["condition"] for job in JOBS} == dict.fromkeys(
        JOBS, "service_completed_successfully"
    )
    for target in TARGETS.keys() - {"store"}:
        assert found[f"lares-{target}"]["depends_on"]["lares-store"] == {"condition": "service_healthy"}
    for name, service in found.items():
        test = service.get("healthcheck", {}).get("test", [])
        # A folder that only bash has; the shell of an image may be another one.
        assert not any("/dev/tcp" in word for word in test) or test[:3] == ["CMD", "bash", "-c"], name
        for other, how in service.get("depends_on", {}).items():
            healthy = found[other]["image"].startswith("lares-") or "healthcheck" in found[other]
            assert how["condition"] != "service_healthy" or healthy, f"{name} waits for {other}"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What `secrets.sh` made, in a folder of the test."""
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True, timeout=60)
    return tmp_path / "secrets"


def test_every_secret_is_made_and_mounted(made: Path) -> None:
    project = composed(WHOLE)
    assert {f"./secrets/{file.name}" for file in made.iterdir()} == {
        secret["file"] for secret in project["secrets"].values()
    }
    for name, service in project["services"].items():
        mounted = {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}
        assert mounted <= project["secrets"].keys()
        for setting, value in (service.get("environment") or {}).items():
            if str(value).startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in mounted, f"{name}: {setting}"


def test_secrets_stay_when_there_are_some_and_are_closed(made: Path) -> None:
    before = {file.name: file.read_text() for file in made.iterdir()}
    subprocess.run([made.parent / "secrets.sh"], check=True, timeout=60)
    assert {file.name: file.read_text() for file in made.iterdir()} == before
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044 for file in made.iterdir())
    assert before["bus_password"].strip() in before["kafka_properties"]
    # Kafka's image copies the file with its mode, and adds to the copy.
    assert stat.S_IMODE((made / "kafka_properties").stat().st_mode) & 0o200
    assert len({before[name] for name in ("bus_password", "database_password", "grafana_password")}) == 3


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_containers_may_do_little(file: Path) -> None:
    for name, service in composed(file)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        _, _, tag = service["image"].rpartition(":")
        assert any(map(str.isdigit, tag)), f"{service['image']} is not pinned"
        # The images of models write where they like.
        if name not in ("triton", "tensorrt-llm"):
            assert service["read_only"] is True, name
        if service["image"].startswith("lares-"):
            assert service["user"] == "10001:10001"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_only_this_machine_reaches_the_ports(file: Path) -> None:
    """By default: the variables BIND and CAMERAS_BIND open them."""
    for service in composed(file)["services"].values():
        assert set(published(service).values()) <= {"127.0.0.1"}


def test_parts_without_tls_have_no_way_out() -> None:
    project = composed(WHOLE)
    assert project["networks"]["inside"] == {"internal": True}
    for name in ("kafka", "postgres"):
        assert project["services"][name]["networks"] == ["inside"]
        assert "ports" not in project["services"][name]

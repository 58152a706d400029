"""The manifests fit the code: its settings, ports, services, topics and images; and each other."""

import os
import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from deploy.cli import parser
from deploy.mesh_factory import guard_listening
from deploy.targets import TARGETS
from detect_svc.service import NAME as DETECT
from mesh.addresses import split_address
from mesh.config import Config
from mesh.topics import DEAD_LETTER_SERVICES, INGESTED, TOPICS, dead_letters
from tests.support.container_config import config_of
from tests.support.kustomize import K8S, KUBECTL, OVERLAYS, Object, rendered
from tests.support.manifest_schemas import validate_object
from tests.support.workloads import (
    Workload,
    made_secrets,
    of_lares,
    referred_secrets,
    workloads,
)

# The component that runs a target of `lares up`; ingest has two.
COMPONENTS = {target: [target] for target in TARGETS} | {"ingest": ["ingest", "ingest-watcher"]}
# The settings that say where a service listens, and the names of their ports.
LISTENERS = {
    "LARES_METRICS_LISTEN": "metrics",
    "LARES_GRPC_LISTEN": "grpc",
    "LARES_MESH_LISTEN": "mesh",
    "LARES_PUSH_LISTEN": "push",
}
# Clients reach it by a Service, which leaves out pods that are not ready, and it has answers without these.
READY = {"gateway": "/ready?without=kafka,blobs,store"}
# What a service calls: the code's `mesh.channel(...)`, and the store to check keys.
CALLS = {
    "store": set(),
    "ingest": {"store", "detect"},
    "ingest-watcher": {"store", "detect"},
    "detect": {"store"},
    "reason": {"store"},
    "gateway": {"store", "ingest", "detect", "reason"},
}


@pytest.fixture(params=OVERLAYS)
def things(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(f"overlays/{request.param}")


def one(things: list[Object], kind: str, name: str) -> Object:
    (thing,) = (each for each in things if each["kind"] == kind and each["metadata"]["name"] == name)
    return thing


def services(things: list[Object]) -> dict[str, Workload]:
    """The Deployments of Lares, by component."""
    return {
        each.labels["app.kubernetes.io/component"]: each
        for each in of_lares(things)
        if each.thing["kind"] == "Deployment"
    }


def test_lares_accepts_the_settings_of_every_container(
    things: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is known and valid, and nothing is reachable without TLS that may not be."""
    pods = of_lares(things)
    for pod in pods:
        guard_listening(config_of(pod.environment, tmp_path, monkeypatch))
    assert len(pods) == 8


def test_lares_knows_the_command_of_every_container(things: list[Object]) -> None:
    for pod in of_lares(things):
        parser().parse_args(pod.container["args"])  # exits with status 2 if it does not


def test_the_kafka_user_may_do_what_the_services_do() -> None:
    """And no more: each prefix that it is granted is that of a topic, or of a group of docs/deploy.md."""
    user = one(rendered("overlays/production"), "KafkaUser", "lares-services")
    acls = user["spec"]["authorization"]["acls"]
    topics = {*(topic.name for topic in TOPICS), *map(dead_letters, DEAD_LETTER_SERVICES)}
    groups = {f"{service}:" for service in DEAD_LETTER_SERVICES}
    for kind, names, operations in (("topic", topics, ["Read", "Write"]), ("group", groups, ["Read"])):
        granted = [acl for acl in acls if acl["resource"]["type"] == kind]
        assert all(acl["operations"] == operations for acl in granted)
        assert all(acl["resource"]["patternType"] == "prefix" for acl in granted)
        prefixes = {acl["resource"]["name"] for acl in granted}
        assert {prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)} == prefixes
        assert {name for name in names if any(map(name.startswith, prefixes))} == names
    assert {acl["resource"]["type"] for acl in acls} == {"topic", "group"}


def test_an_unknown_setting_would_be_noticed(
    things: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = services(things)["store"]
    changed = pod.thing | {}
    container = pod.container | {"env": [{"name": "LARES_STORE_PORT", "value": "tcp://10.0.0.1:50051"}]}
    changed["spec"] = {"template": pod.pod | {"spec": pod.spec | {"containers": [container]}}}
    with pytest.raises(Exception, match="LARES_STORE_PORT"):
        config_of(Workload(changed, things).environment, tmp_path, monkeypatch)


def test_no_pod_gets_the_variables_of_services(things: list[Object]) -> None:
    """Kubernetes would set LARES_STORE_PORT for the Service lares-store, at which Lares refuses to start."""
    for pod in workloads(things):
        assert pod.spec["enableServiceLinks"] is False, pod.name


def test_every_file_in_the_settings_is_mounted(things: list[Object]) -> None:
    checked = 0
    for pod in of_lares(things):
        for name, value in pod.environment.items():
            if value.startswith("/run/secrets/"):
                assert pod.mounted_secret(value), f"{pod.name}: {name}={value}"
                checked += 1
    assert checked > 5


def printed_secrets(overlay: str) -> list[Object]:
    variables = {**os.environ, "KUBECTL": str(KUBECTL), "BLOBS_KEY": "key", "BLOBS_SECRET": "se:cr@t/"}
    command = [str(K8S / "secrets.sh"), overlay]
    output = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    return list(yaml.safe_load_all(output.stdout))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_printed_secrets_are_valid_and_new_every_time(overlay: str) -> None:
    first, second = printed_secrets(overlay), printed_secrets(overlay)
    assert first != second
    for secret in first:
        validate_object(secret)


def test_a_wrong_overlay_prints_nothing() -> None:
    output = subprocess.run([K8S / "secrets.sh", "staging"], capture_output=True, text=True, timeout=60)
    assert (output.returncode, output.stdout) == (2, "")


def test_every_secret_is_made(things: list[Object]) -> None:
    """By an operator, or by the person who sends what `secrets.sh` prints."""
    overlay = "production" if any(thing["kind"] == "Kafka" for thing in things) else "single-node"
    made = made_secrets(things) | {
        secret["metadata"]["name"]: set(secret["data"]) for secret in printed_secrets(overlay)
    }
    for name, key in sorted(referred_secrets(things)):
        assert name in made, f"nothing makes the Secret {name}"
        assert not key or key in made[name], f"the Secret {name} has no {key}"


def test_every_service_has_what_it_needs(things: list[Object]) -> None:
    found = services(things)
    assert sorted(found) == sorted(name for names in COMPONENTS.values() for name in names)
    for target, components in COMPONENTS.items():
        for component in components:
            pod = found[component]
            assert pod.name == f"lares-{component}"
            assert pod.container["args"] == ["up", "--target", target]
            assert pod.container["image"].rpartition(":")[0] == f"lares-{target}"
            budget = one(things, "PodDisruptionBudget", f"lares-{component}")
            assert budget["spec"]["selector"] == pod.thing["spec"]["selector"]
            policy = one(things, "NetworkPolicy", f"lares-{component}")
            assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
            assert pod.spec["topologySpreadConstraints"]


def test_probes_ask_different_things(things: list[Object]) -> None:
    for component, pod in services(things).items():
        probes = {
            kind: pod.container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
        }
        ready = READY.get(component, "/ready")
        assert probes == {
            "startup": {"path": "/started", "port": "metrics"},
            "liveness": {"path": "/live", "port": "metrics"},
            "readiness": {"path": ready, "port": "metrics"},
        }


def test_ports_are_those_of_the_settings(things: list[Object]) -> None:
    for component, pod in services(things).items():
        settings = {
            name: split_address(pod.environment[setting])[1]
            for setting, name in LISTENERS.items()
            if setting in pod.environment
        }
        if component == "gateway":
            settings["http"] = split_address(pod.environment["LARES_GATEWAY_LISTEN"])[1]
        assert pod.ports == settings, pod.name


def test_services_lead_to_ports_of_pods(things: list[Object]) -> None:
    pods = workloads(things)
    for service in (each for each in things if each["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        chosen = [pod for pod in pods if selector <= pod.labels.items()]
        assert chosen, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert all(pod.ports[port["targetPort"]] == port["port"] for pod in chosen)


def test_peers_are_headless_services(things: list[Object]) -> None:
    peers = one_setting(things, "LARES_PEERS")
    for peer in peers.split(","):
        name, target = peer.split("=")
        host, port = re.fullmatch(r"dns:///([\w-]+):(\d+)", target).groups()  # type: ignore[union-attr]
        assert host == f"lares-{name}"
        service = one(things, "Service", host)
        assert service["spec"]["clusterIP"] == "None"
        # Cameras and proxies, which call ingest, do not ask whether a replica can answer; siblings do.
        assert service["spec"].get("publishNotReadyAddresses", False) == (name != "ingest")
        assert int(port) in [each["port"] for each in service["spec"]["ports"] if each["name"] == "mesh"]


def one_setting(things: list[Object], name: str) -> str:
    (value,) = {each.environment[name] for each in of_lares(things) if name in each.environment}
    return value


# Volumes


def test_triton_has_a_folder_of_its_own() -> None:
    """It ends if it cannot load every folder that it finds: `lost+found`, or a language model's."""
    triton = next(each for each in workloads(rendered("overlays/production")) if each.name == "lares-triton")
    folder = PurePosixPath(triton.container["command"][1].partition("--model-repository=")[2])
    assert str(folder) not in {mount["mountPath"] for mount in triton.container["volumeMounts"]}
    assert str(folder.parent) == "/models"


def quantity(text: str) -> int:
    """Bytes of a quantity of Kubernetes, in the units that are used here."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_kafkas_folder_is_below_its_volume(things: list[Object]) -> None:
    """At the root of a volume with ext4 lies `lost+found`, with which Kafka does not start."""
    for broker in (each for each in workloads(things) if "KAFKA_LOG_DIRS" in each.environment):
        folder = PurePosixPath(broker.environment["KAFKA_LOG_DIRS"])
        assert str(folder) not in {mount["mountPath"] for mount in broker.container["volumeMounts"]}
        assert any(str(above) == "/var/lib/kafka/data" for above in folder.parents)


def test_the_cache_has_room_for_media_on_their_way(things: list[Object]) -> None:
    """A pod that exceeds the size of a volume in its memory or on the node's disk is evicted."""
    config = Config()
    for pod in of_lares(things):
        (cache,) = (each for each in pod.spec["volumes"] if each["name"] == "cache")
        room = quantity(cache["emptyDir"]["sizeLimit"]) - config.blobs_cache_bytes
        assert room >= 2 * config.clip_max_bytes, pod.name


def test_folders_of_other_nodes_are_polled(things: list[Object]) -> None:
    """A file system that several nodes mount announces no changes."""
    claim = one(things, "PersistentVolumeClaim", "lares-cameras")
    shared = "ReadWriteMany" in claim["spec"]["accessModes"]
    watcher = services(things)["ingest-watcher"]
    assert (watcher.environment.get("LARES_INGEST_POLLING") == "true") == shared


def test_no_volume_is_walked_at_each_start(things: list[Object]) -> None:
    for pod in workloads(things):
        assert pod.spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch", pod.name


# Network policies


def selects(selector: Object, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule["values"]
        assert rule["operator"] in ("In", "NotIn")
        if inside != (rule["operator"] == "In"):
            return False
    return True


def allowed(things: list[Object], source: Workload, target: Workload, port: int) -> bool:
    """Whether the policies let one pod connect to another: its own for what goes out, the other's for what
    comes in."""
    return _lets(things, source, target, port, "egress", "to") and _lets(
        things, target, source, port, "ingress", "from"
    )


def _lets(things: list[Object], pod: Workload, other: Workload, port: int, way: str, side: str) -> bool:
    for policy in (each["spec"] for each in things if each["kind"] == "NetworkPolicy"):
        if not selects(policy["podSelector"], pod.labels):
            continue
        for rule in policy.get(way) or []:
            ports = [each["port"] for each in rule.get("ports", [])]
            peers = [peer for peer in rule.get(side, []) if set(peer) == {"podSelector"}]
            anybody = side not in rule
            if port in ports and (
                anybody or any(selects(peer["podSelector"], other.labels) for peer in peers)
            ):
                return True
    return False


def test_nothing_is_allowed_by_default(things: list[Object]) -> None:
    policy = one(things, "NetworkPolicy", "default-deny")["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_services_reach_those_that_they_call_and_no_others(things: list[Object]) -> None:
    found = services(things)
    for caller, pod in found.items():
        out = {each for each in found if _lets(things, pod, found[each], 50052, "egress", "to")}
        into = {each for each in found if _lets(things, found[each], pod, 50052, "ingress", "from")}
        assert (out, into) == (CALLS[caller], CALLS[caller]), caller


def test_only_the_store_reaches_the_database(things: list[Object]) -> None:
    databases = [each for each in workloads(things) if each.name == "lares-db"]
    for database in databases:
        who = {each.name for each in of_lares(things) if allowed(things, each, database, 5432)}
        assert who == {"lares-store", "lares-migrate"}
        assert not allowed(things, services(things)["gateway"], database, 5432)


def test_all_but_the_migration_reach_kafka(things: list[Object]) -> None:
    for broker in (each for each in workloads(things) if each.name == "lares-kafka"):
        who = {each.name for each in of_lares(things) if allowed(things, each, broker, 9092)}
        assert who == {each.name for each in of_lares(things)} - {"lares-migrate"}


def test_the_models_are_reached_by_their_users_alone() -> None:
    things = rendered("overlays/production")
    found = services(things)
    triton, llama = (
        next(each for each in workloads(things) if each.name == name)
        for name in ("lares-triton", "lares-llama")
    )
    assert {name for name in found if allowed(things, found[name], triton, 8001)} == {"detect"}
    assert {name for name in found if allowed(things, found[name], llama, 8080)} == {"reason"}


def test_names_are_asked_of_the_cache_of_a_node_too() -> None:
    for overlay in OVERLAYS:
        (rule,) = one(rendered(f"overlays/{overlay}"), "NetworkPolicy", "dns")["spec"]["egress"]
        assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]


def test_prometheus_reaches_what_it_scrapes() -> None:
    """Each port that a PodMonitor names is one of pods, and open to the namespace `monitoring`."""
    things = rendered("overlays/production")
    scraped: set[str] = set()
    for monitor in (each for each in things if each["kind"] == "PodMonitor"):
        pods = [each for each in workloads(things) if selects(monitor["spec"]["selector"], each.labels)]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            ports = {
                each.name: each.ports[endpoint["port"]] for each in pods if endpoint["port"] in each.ports
            }
            assert ports, f"{monitor['metadata']['name']} finds no port {endpoint['port']}"
            scraped |= ports.keys()
            for each in pods:
                if each.name in ports:
                    assert monitored(things, each, ports[each.name]), each.name
    assert scraped == {each.name for each in workloads(things)} - {"lares-migrate", "lares-topics"}


def monitored(things: list[Object], pod: Workload, port: int) -> bool:
    """Whether the policies let the namespace `monitoring` connect to this port."""
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policies = [each["spec"] for each in things if each["kind"] == "NetworkPolicy"]
    rules = [
        rule
        for policy in policies
        if selects(policy["podSelector"], pod.labels)
        for rule in policy.get("ingress") or []
    ]
    return any(
        port in [each["port"] for each in rule["ports"]] and monitoring in rule.get("from", [monitoring])
        for rule in rules
    )


# Security


def containers(pod: Workload) -> list[Any]:
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


def test_every_pod_is_restricted(things: list[Object]) -> None:
    """As the profile `restricted` wants it, and with a root file system that nobody writes to."""
    for pod in workloads(things):
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.name
            assert container["resources"]["limits"]["memory"], pod.name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, pod.name
            assert ":" in container["image"], pod.name
            assert not container["image"].endswith(":latest")
    for pod in of_lares(things):
        assert pod.spec["securityContext"]["runAsUser"] == 10001


RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_pods_of_strimzi_are_restricted() -> None:
    """By default they are not, and the namespace would refuse them. CloudNativePG's are by themselves."""
    things = rendered("overlays/production")
    assert one(things, "Namespace", "lares")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )
    brokers = one(things, "KafkaNodePool", "brokers")["spec"]["template"]
    # Strimzi's default for volumes, which goes with its other defaults.
    assert brokers["pod"]["securityContext"] == RESTRICTED_POD | {"fsGroup": 0}
    assert brokers["kafkaContainer"]["securityContext"] == RESTRICTED_CONTAINER
    operator = one(things, "Kafka", "lares-kafka")["spec"]["entityOperator"]["template"]
    assert operator["pod"]["securityContext"] == RESTRICTED_POD
    assert operator["userOperatorContainer"]["securityContext"] == RESTRICTED_CONTAINER


def test_the_ca_keeps_its_key_and_the_certificates_do_not() -> None:
    """With a new key of the CA, services that have renewed and those that have not refuse each other."""
    certificates = [each for each in rendered("overlays/production") if each["kind"] == "Certificate"]
    for each in certificates:
        policy = each["spec"]["privateKey"]["rotationPolicy"]
        assert policy == ("Never" if each["spec"].get("isCA") else "Always"), each["metadata"]["name"]
    assert len(certificates) == 1 + len(TARGETS)


def test_no_secret_is_written_down(things: list[Object]) -> None:
    assert not [each for each in things if each["kind"] == "Secret"]
    for pod in workloads(things):
        for name, value in pod.environment.items():
            assert not re.search(r"://[^/@]*:[^/@]+@", value), f"{pod.name}: {name} contains a password"


def test_the_grace_period_is_longer_than_the_drain(things: list[Object]) -> None:
    for pod in services(things).values():
        drain = float(pod.environment["LARES_DRAIN_SECONDS"])
        assert pod.spec["terminationGracePeriodSeconds"] >= drain + 30


# Scaling


def test_detect_scales_on_its_consumer_group() -> None:
    things = rendered("overlays/production")
    scaled = one(things, "ScaledObject", "lares-detect")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["topic"] == INGESTED.name
    assert trigger["metadata"]["consumerGroup"] == f"{DETECT}:{INGESTED.name}"
    assert scaled["maxReplicaCount"] == (INGESTED.partitions or Config().topic_partitions)
    # Otherwise it speaks Kafka 1.0, of which Kafka 4 understands nothing.
    assert tuple(map(int, trigger["metadata"]["version"].split("."))) >= (2, 1)
    # KEDA takes name, password and CA from the authentication alone.
    assert not {"username", "password", "ca"} & trigger["metadata"].keys()
    login = one(things, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]
    (name,) = login["configMapTargetRef"]
    secrets = {each["parameter"]: each["name"] for each in login["secretTargetRef"]}
    assert name["parameter"] == "username"
    user = one(things, "KafkaUser", one(things, "ConfigMap", name["name"])["data"][name["key"]])
    assert secrets == {"password": user["metadata"]["name"], "ca": "lares-kafka-cluster-ca-cert"}
    assert {acl["resource"]["name"] for acl in user["spec"]["authorization"]["acls"]} == {
        trigger["metadata"]["topic"],
        trigger["metadata"]["consumerGroup"],
    }


def test_what_scales_has_no_number_of_its_own() -> None:
    things = rendered("overlays/production")
    for scaled in (each for each in things if each["kind"] == "ScaledObject"):
        target = one(things, "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]


# FTP


@pytest.fixture
def with_ftp(tmp_path: Path, overlay: str) -> list[Object]:
    """An overlay of one's own, as docs/deploy.md has it."""
    text = (K8S.parents[1] / "docs/deploy.md").read_text().partition("### FTP")[2]
    example = text.partition("```yaml\n")[2].partition("```")[0]
    assert "overlays/production" in example
    k8s = os.path.relpath(K8S, tmp_path)
    example = example.replace("overlays/production", f"overlays/{overlay}").replace("lares/deploy/k8s", k8s)
    (tmp_path / "kustomization.yaml").write_text(example)
    return rendered(str(tmp_path))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_cameras_reach_ftp_and_its_data_in_the_pod_of_their_folder(
    with_ftp: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = services(with_ftp)["ingest-watcher"]
    assert pod.container["readinessProbe"]["httpGet"]["path"] == "/ready?without=kafka,blobs"
    config = config_of(pod.environment, tmp_path, monkeypatch)
    guard_listening(config)
    assert config.ftp_passive_range is not None
    wanted = {split_address(config.ftp_listen)[1], *config.ftp_passive_range}

    service = one(with_ftp, "Service", "lares-ftp")
    assert service["spec"]["selector"].items() <= pod.labels.items()
    assert {(each["port"], each["targetPort"]) for each in service["spec"]["ports"]} == {
        (port, port) for port in wanted
    }
    # Data must come to the same pod, and from the same address, as commands.
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert config.ftp_passive_address == service["spec"]["loadBalancerIP"]

    policy = one(with_ftp, "NetworkPolicy", "ftp")["spec"]
    assert selects(policy["podSelector"], pod.labels)
    (rule,) = policy["ingress"]
    assert "from" not in rule
    assert wanted == {
        port for each in rule["ports"] for port in range(each["port"], each.get("endPort", each["port"]) + 1)
    }
    assert pod.ports["ftp"] == split_address(config.ftp_listen)[1]
    assert "cameras" in {mount["name"] for mount in pod.container["volumeMounts"]}
    for thing in with_ftp:
        validate_object(thing)

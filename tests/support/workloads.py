"""What runs in a rendered kustomization: Lares's own pods, and what they are given."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tests.support.kustomize import Object

# What the operators put into the Secrets that they make, and whose name `made_secrets` derives.
STRIMZI_USER, STRIMZI_CA = {"password", "sasl.jaas.config"}, {"ca.crt", "ca.p12", "ca.password"}
CNPG_APP, CNPG_CA = {"username", "password", "uri", "pgpass"}, {"ca.crt", "ca.key"}
CERTIFICATE = {"tls.crt", "tls.key", "ca.crt"}


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job, and the objects that are rendered with it."""

    thing: Object
    things: list[Object]

    @property
    def name(self) -> str:
        return str(self.thing["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.pod["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Object:
        pod: Object = self.thing["spec"]["template"]
        return pod

    @property
    def spec(self) -> Object:
        spec: Object = self.pod["spec"]
        return spec

    @property
    def container(self) -> Object:
        (container,) = self.spec["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    @property
    def environment(self) -> dict[str, str]:
        """The variables whose values are known without a Secret."""
        maps = {each["metadata"]["name"]: each for each in self.things if each["kind"] == "ConfigMap"}
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            found |= maps[source["configMapRef"]["name"]].get("data") or {}
        return found | {
            each["name"]: each["value"] for each in self.container.get("env", []) if "value" in each
        }

    def mounted_secret(self, path: str) -> tuple[str, str] | None:
        """The Secret and the key that a file in the container comes from, or None if nothing is mounted."""
        file = PurePosixPath(path)
        for mount in self.container.get("volumeMounts", []):
            folder = PurePosixPath(mount["mountPath"])
            if file.is_relative_to(folder):
                (volume,) = (each for each in self.spec["volumes"] if each["name"] == mount["name"])
                if "secret" not in volume:
                    return None
                source, wanted = volume["secret"], str(file.relative_to(folder))
                keys = [each["key"] for each in source.get("items", []) if each["path"] == wanted]
                if keys or "items" not in source:
                    return source["secretName"], (keys or [wanted])[0]
        return None


def workloads(
    things: list[Object], kinds: tuple[str, ...] = ("Deployment", "StatefulSet", "Job")
) -> list[Workload]:
    return [Workload(thing, things) for thing in things if thing["kind"] in kinds]


def of_lares(things: list[Object]) -> list[Workload]:
    """The services and the jobs of Lares itself."""
    return [each for each in workloads(things) if each.labels["app.kubernetes.io/name"] == "lares"]


def made_secrets(things: list[Object]) -> dict[str, set[str]]:
    """The Secrets that operators make for these objects, with their keys."""
    made: dict[str, set[str]] = {}
    for thing in things:
        name = thing["metadata"]["name"]
        if thing["kind"] == "KafkaUser":
            made[name] = STRIMZI_USER
        elif thing["kind"] == "Kafka":
            made[f"{name}-cluster-ca-cert"] = STRIMZI_CA
        elif thing["kind"] == "Cluster":
            made |= {f"{name}-app": CNPG_APP, f"{name}-ca": CNPG_CA}
        elif thing["kind"] == "Certificate":
            made[thing["spec"]["secretName"]] = CERTIFICATE
    return made


def referred_secrets(thing: Any) -> set[tuple[str, str]]:
    """Every Secret that an object refers to, with the key, or with none if it takes the whole."""
    found: set[tuple[str, str]] = set()
    if isinstance(thing, list):
        for each in thing:
            found |= referred_secrets(each)
    elif isinstance(thing, dict):
        if "secretName" in thing and thing.get("kind") != "Certificate":
            found |= {(thing["secretName"], item["key"]) for item in thing.get("items", [])} or {
                (thing["secretName"], "")
            }
        if "secretKeyRef" in thing:
            found.add((thing["secretKeyRef"]["name"], thing["secretKeyRef"]["key"]))
        for reference in thing.get("secretTargetRef", []):
            found.add((reference["name"], reference["key"]))
        for value in thing.values():
            found |= referred_secrets(value)
    return found

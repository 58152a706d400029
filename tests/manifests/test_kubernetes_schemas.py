"""The manifests are valid, strictly; and a mistake in any kind of object would be noticed."""

import copy
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.support.kustomize import OVERLAYS, Object, rendered
from tests.support.manifest_schemas import STRIMZI_GROUP, strict_schema, validate_object

WRONG = (jsonschema.ValidationError, kubernetes_validate.ValidationError)

# By kind: a field that is not at the top, and a value of a wrong type for it.
MISTAKES: dict[str, tuple[str, Any]] = {
    "Certificate": ("spec.issuerRef.name", 1),
    "Cluster": ("spec.storage.size", 50),
    "ConfigMap": ("data", "LARES_HOME=/"),
    "Deployment": ("spec.template.spec.containers.0.readinessProbe.periodSeconds", "5"),
    "Issuer": ("spec.selfSigned", "yes"),
    "Job": ("spec.template.spec.containers.0.args", "apply"),
    "Kafka": ("spec.kafka.listeners.0.port", "9093"),
    "KafkaNodePool": ("spec.storage.volumes.0.deleteClaim", "no"),
    "KafkaUser": ("spec.authorization.acls.0.operations", "Read"),
    "Namespace": ("metadata.labels", []),
    "NetworkPolicy": ("spec.podSelector", "lares"),
    "PersistentVolumeClaim": ("spec.resources.requests", "20Gi"),
    "PodDisruptionBudget": ("spec.unhealthyPodEvictionPolicy", True),
    "PodMonitor": ("spec.podMetricsEndpoints.0.interval", 15),
    "PrometheusRule": ("spec.groups.0.rules.0.alert", 1),
    "ScaledObject": ("spec.maxReplicaCount", "12"),
    "Service": ("spec.ports.0.port", "http"),
    "ServiceAccount": ("automountServiceAccountToken", "false"),
    "StatefulSet": ("spec.template.spec.securityContext.runAsUser", "1000"),
    "TriggerAuthentication": ("spec.secretTargetRef.0.key", 1),
}


def objects(kind: str) -> list[Object]:
    return [thing for name in OVERLAYS for thing in rendered(f"overlays/{name}") if thing["kind"] == kind]


def parent_of(thing: Object, path: str) -> tuple[Any, Any]:
    """The container of the value at a path, and its key in there."""
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = thing
    for step in steps:
        place = place[step]
    return place, last


def with_field(kind: str, path: str) -> Object:
    """A copy of an object of this kind that has the field."""
    for thing in objects(kind):
        try:
            place, last = parent_of(thing, path)
            place[last]
        except (KeyError, IndexError):
            continue
        return copy.deepcopy(thing)
    raise AssertionError(f"no {kind} has {path}")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str) -> None:
    things = rendered(f"overlays/{overlay}")
    for thing in things:
        try:
            validate_object(thing)
        except WRONG as error:
            where = ".".join(map(str, error.path))
            pytest.fail(f"{thing['kind']} {thing['metadata']['name']}: {where}: {error.message}")
    assert len(things) > 40


def test_each_kind_has_a_mistake() -> None:
    kinds = {thing["kind"] for name in OVERLAYS for thing in rendered(f"overlays/{name}")}
    assert kinds == MISTAKES.keys()


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_misspelt_field_is_noticed(kind: str) -> None:
    thing = with_field(kind, MISTAKES[kind][0])
    place, last = parent_of(thing, MISTAKES[kind][0])
    place[f"{last}x"] = place.pop(last)
    with pytest.raises(WRONG):
        validate_object(thing)


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_value_of_a_wrong_type_is_noticed(kind: str) -> None:
    path, wrong = MISTAKES[kind]
    thing = with_field(kind, path)
    place, last = parent_of(thing, path)
    place[last] = wrong
    with pytest.raises(WRONG):
        validate_object(thing)


@pytest.mark.parametrize("kind", ["ScaledObject", "Cluster", "Certificate"])
def test_a_missing_field_is_noticed(kind: str) -> None:
    thing = copy.deepcopy(objects(kind)[0])
    required = {"ScaledObject": "triggers", "Cluster": "instances", "Certificate": "secretName"}[kind]
    del thing["spec"][required]
    with pytest.raises(WRONG):
        validate_object(thing)


@pytest.mark.parametrize(
    ("version", "kind"),
    [("v1", "KafkaTopik"), (f"{STRIMZI_GROUP}/v1", "KafkaTopik"), ("keda.sh/v1", "Scaler")],
)
def test_an_unknown_kind_is_noticed(version: str, kind: str) -> None:
    with pytest.raises(AssertionError):
        validate_object({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}})


def test_a_crd_becomes_a_strict_schema() -> None:
    """What is listed is allowed, with what Kubernetes adds; free maps and preserved fields stay free."""
    crd = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
                    "free": {
                        "type": "object",
                        "properties": {},
                        "x-kubernetes-preserve-unknown-fields": True,
                    },
                    "config": {"type": "object", "additionalProperties": {"type": "string"}},
                    "properties": {"type": "array", "items": {"type": "string"}},
                },
            }
        },
    }
    schema = strict_schema(crd)
    schema["properties"].pop("metadata")
    valid = {"apiVersion": "v1", "kind": "X"}
    for spec in (
        {"size": 1},
        {"size": "1Gi"},
        {"free": {"a": 1}},
        {"config": {"a": "b"}},
        {"properties": ["a"]},
    ):
        jsonschema.validate(valid | {"spec": spec}, schema)
    for wrong in ({"sice": 1}, {"size": 1.5}, {"config": {"a": 1}}, {"properties": "a"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(valid | {"spec": wrong}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(valid | {"speck": {}}, schema)

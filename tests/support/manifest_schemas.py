"""Checks a Kubernetes object strictly: against Kubernetes' own schemas, and those of the operators that
`deploy/k8s` uses.

The schemas of the custom kinds are made from published packages, since no operator publishes its own in a
registry that every machine reaches: Strimzi's from the generator of its CRDs (Maven), the others from
TypeScript declarations that are made from the operators' Go types (npm).
"""

import asyncio
import hashlib
import json
import os
import subprocess
import tempfile
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

from deploy.embedded.java import find_java
from mesh.artifacts import fetch_jars, fetching
from tests.support.declared_schema import declared_schema
from tests.support.npm import npm_package
from tests.support.parts import CACHE

Object = dict[str, Any]

# The oldest and the newest Kubernetes that the manifests are for.
VERSIONS = ("1.32", "1.37")
DEFINITIONS = files("kubernetes_validate") / "kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"

STRIMZI = Path(__file__).with_name("strimzi.lock")
STRIMZI_GROUP = "kafka.strimzi.io"
STRIMZI_KINDS = {
    "Kafka": "io.strimzi.api.kafka.model.kafka.Kafka",
    "KafkaNodePool": "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}
# By API group: a package, its version and sha256.
PACKAGES = {
    "keda.sh": (
        "@kubernetes-models/keda",
        "2.0.0",
        "825e7b45dfd9da8dfdfd838a6d31e2e180c8491c8e493c3822f9123e49ceffef",
    ),
    "postgresql.cnpg.io": (
        "@kubernetes-models/cloudnative-pg",
        "2.0.0",
        "c4bec78c5a487c2e7c9da29fbbf408e714414e87726af92d14c0590c07019417",
    ),
    "cert-manager.io": (
        "@kubernetes-models/cert-manager",
        "6.0.0",
        "0e5bc3ff9c20a588abdfcc34590442cc40b3037d789ec74acb59119aac4fbfed",
    ),
    "monitoring.coreos.com": (
        "@kubernetes-models/prometheus-operator",
        "6.0.0",
        "e92402ebff400ea1ca5fe60546554841ab6f5986b317f3f0d4cb756dc88fbd37",
    ),
}


def validate_object(thing: Object) -> None:
    """Raises jsonschema.ValidationError if the object has a wrong, a missing or an unknown field, and
    AssertionError if its kind is not known. Skips the test if the kind's schema cannot be had here."""
    group, _, version = thing["apiVersion"].rpartition("/")
    if group == STRIMZI_GROUP:
        _validate(thing, strimzi_schema(thing["kind"], version))
    elif group in PACKAGES:
        _validate(thing, packaged_schema(group, version, thing["kind"]))
    else:
        for release in VERSIONS:
            try:
                kubernetes_validate.validate(thing, release, strict=True)
            except kubernetes_validate.SchemaNotFoundError as error:
                raise AssertionError(error.message) from None


def _validate(thing: Object, schema: Object) -> None:
    registry: Registry[Any] = Resource.from_contents(_definitions()) @ Registry()
    validator = jsonschema.Draft202012Validator(schema, registry=registry)
    error = jsonschema.exceptions.best_match(validator.iter_errors(thing))
    if error:
        raise error


@cache
def _definitions() -> Any:
    """Kubernetes' own types, to which custom kinds refer."""
    return json.loads(DEFINITIONS.read_text())


@cache
def packaged_schema(group: str, version: str, kind: str) -> Object:
    """The schema of a custom kind from the declarations of its package."""
    folder = npm_package(*PACKAGES[group]) / group / version
    declared = folder / f"{kind}.d.ts"
    assert declared.exists(), f"{group}/{version} has no kind {kind}"
    return declared_schema(declared, list(_definitions()["$defs"]))


@cache
def strimzi_schema(kind: str, version: str) -> Object:
    """The schema of a kind of Strimzi from the CRD that its own generator writes."""
    assert kind in STRIMZI_KINDS, f"add {kind} to STRIMZI_KINDS"
    crd = yaml.safe_load((_strimzi_crds() / f"{kind}.yaml").read_text())
    by_version = {each["name"]: each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"]}
    assert version in by_version, f"{kind} has no version {version}"
    schema: Object = strict_schema(by_version[version])
    return schema


def strict_schema(schema: Any) -> Any:
    """A CRD's OpenAPI schema as a JSON schema in which an object has no fields but those it lists, as
    `kubectl --validate=strict` sees it. What Kubernetes adds to every object is added."""
    whole = _strict(schema)
    properties = whole["properties"]
    properties["apiVersion"] = properties["kind"] = {"type": "string"}
    properties["metadata"] = {
        "$ref": "https://kubernetes.io/api/_definitions.json"
        "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    }
    return whole


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("anyOf", None)
        strict["type"] = ["integer", "string"]
    # `properties` may itself be the name of a field, whose schema has no type "object".
    listed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if listed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


@cache
def _strimzi_crds() -> Path:
    """The folder with the CRDs of STRIMZI_KINDS, generated once for each set of jars and kinds."""
    key = hashlib.sha256(STRIMZI.read_bytes() + repr(STRIMZI_KINDS).encode()).hexdigest()[:16]
    target = CACHE / "crds" / key
    if target.exists():
        return target
    jars = asyncio.run(fetching(partial(fetch_jars, CACHE, STRIMZI)))
    java = asyncio.run(find_java(jars))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="crds.") as scratch:
        crds = Path(scratch) / "crds"
        crds.mkdir()
        classes = [f"{name}={crds / kind}.yaml" for kind, name in STRIMZI_KINDS.items()]
        command = [str(java.program), "-cp", java.class_path, "io.strimzi.crdgenerator.CrdGenerator"]
        subprocess.run([*command, "--yaml", *classes], check=True, timeout=120, capture_output=True)
        try:
            os.rename(crds, target)
        except OSError:
            assert target.exists()  # another process was faster
    return target

"""Strict JSON schemas out of the TypeScript declarations of Kubernetes' custom kinds.

The packages `@kubernetes-models/*` declare each type of an operator in a file of its own, as a class with all
its members, those of embedded types included, or as an alias:

    export declare class StorageConfiguration extends Model<IStorageConfiguration> ... {
        "pvcTemplate"?: IIoK8sApiCoreV1PersistentVolumeClaimSpec;
        "size"?: string;
        constructor(data?: ModelData<IStorageConfiguration>);
    }

Only what these generated files contain is understood; anything else raises an AssertionError.
"""

import json
import re
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

KUBERNETES = "https://kubernetes.io/api/_definitions.json#/$defs/"
PRIMITIVES = ("string", "number", "boolean")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IMPORT = re.compile(r'^import \{ ([^}]*) \} from "([^"]*)";$', re.MULTILINE)
DECLARATION = re.compile(
    r"^export (?:declare class \w+[^{]*(?P<members>\{.*?)\n    (?:static|constructor)"
    r"|type \w+ = (?P<alias>.*?);\n(?=export))",
    re.MULTILINE | re.DOTALL,
)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_$][\w$]*|[{}\[\]<>()|&?:;,]|\S')


def declared_schema(file: Path, kubernetes: list[str]) -> Schema:
    """The schema of the type that `file` declares, and of all types that it refers to. `kubernetes`: names of
    Kubernetes' own types (io.k8s.api.core.v1.Container)."""
    return _Reader(file.parent, kubernetes).schema_of(file)


class _Reader:
    def __init__(self, folder: Path, kubernetes: list[str]) -> None:
        self._folder = folder
        # In a declaration, `io.k8s.api.core.v1.Container` is `IIoK8sApiCoreV1Container`.
        self._kubernetes = {name.replace(".", "").replace("-", "").lower(): name for name in kubernetes}
        self._types: dict[str, Schema] = {}

    def schema_of(self, file: Path) -> Schema:
        return {**self._reference(file), "$defs": self._types}

    def _reference(self, file: Path) -> Schema:
        name = str(file.resolve()).replace("/", ".")
        if name not in self._types:
            self._types[name] = {}  # a type may refer to itself
            self._types[name] = _Declaration(self, file).schema
        return {"$ref": f"#/$defs/{name}"}

    def named(self, name: str, source: str, file: Path) -> Schema:
        """The schema of a type that `file` imports from `source`."""
        if source.startswith("."):
            return self._reference((file.parent / source.removesuffix(".js")).with_suffix(".d.ts"))
        if source.startswith("@kubernetes-models/gateway-api"):
            return {}  # the types of yet another package, which no manifest uses
        return {"$ref": KUBERNETES + self._kubernetes[name.removeprefix("I").lower()]}


class _Declaration:
    """One file: a recursive descent over the tokens of its class, or of its alias."""

    def __init__(self, reader: _Reader, file: Path) -> None:
        self._reader, self._file = reader, file
        text = COMMENT.sub("", file.read_text())
        self._imports = {
            name.strip(): source for names, source in IMPORT.findall(text) for name in names.split(",")
        }
        found = DECLARATION.search(text)
        assert found, f"{file} declares no type"
        body = found["alias"] or found["members"] + "}"
        self._tokens = [*TOKEN.findall(body), ";"]
        self.schema = self._type()

    def _type(self) -> Schema:
        choices = [self._single()]
        while self._tokens[0] == "|":
            self._take("|")
            choices.append(self._single())
        return choices[0] if len(choices) == 1 else {"anyOf": choices}

    def _single(self) -> Schema:
        token = self._tokens.pop(0)
        if token == "{":
            return self._members()
        if token == "Array":
            self._take("<")
            items = self._type()
            self._take(">")
            return {"type": "array", "items": items}
        if token in PRIMITIVES:
            return {"type": token}
        if token in ("any", "unknown"):
            return {}
        if token.startswith('"'):
            return {"const": json.loads(token)}
        return self._reader.named(token, self._imports[token], self._file)

    def _members(self) -> Schema:
        """An object. It has no members but those that are declared."""
        properties: Schema = {}
        required = []
        others: Schema | bool = False
        while self._tokens[0] != "}":
            if self._tokens[0] == "[":
                self._take("[", "key", ":", "string", "]", ":")
                others = self._type()
            else:
                name = self._tokens.pop(0).strip('"')
                if self._tokens[0] == "?":
                    self._take("?")
                else:
                    required.append(name)
                self._take(":")
                properties[name] = self._type()
            self._take(";")
        self._take("}")
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": others,
        }

    def _take(self, *expected: str) -> None:
        for token in expected:
            found = self._tokens.pop(0)
            assert found == token, f"{self._file}: {found} where {token} was expected"

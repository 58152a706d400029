"""The compose files as Compose reads them, without Compose."""

import re
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
WHOLE, ALONE = COMPOSE / "compose.yaml", COMPOSE / "one-container.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")

Service = dict[str, Any]


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def composed(path: Path, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables replaced by `variables`, or by their defaults, and without merge keys."""
    project: dict[str, Any] = _interpolated(yaml.safe_load(path.read_text()), variables or {})
    return project


def _interpolated(value: Any, variables: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def replaced(found: "re.Match[str]") -> str:
        text = variables.get(found[1]) or found[2]
        assert text is not None, f"{found[1]} has neither a value nor a default"
        return text

    return VARIABLE.sub(replaced, value)


def published(service: Service) -> dict[int, str]:
    """The ports of the container that the machine has, with the addresses."""
    return {port["target"]: port["host_ip"] for port in service.get("ports", [])}


def of_lares(project: dict[str, Any]) -> dict[str, Service]:
    """The services that run Lares."""
    return {
        name: service
        for name, service in project["services"].items()
        if service["image"].startswith("lares-")
    }

"""Renders the manifests of `deploy/k8s` as `kubectl apply -k` would send them."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "deploy" / "k8s"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))

Object = dict[str, Any]


@cache
def rendered(folder: str) -> list[Object]:
    """The objects of a kustomization, given by its path below `deploy/k8s`, or by an absolute one."""
    command = [str(KUBECTL), "kustomize", str(K8S / folder)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert output.returncode == 0, output.stderr
    return [thing for thing in yaml.safe_load_all(output.stdout) if thing]

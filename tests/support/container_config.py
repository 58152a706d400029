"""What Lares reads of its settings in a container."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mesh.config import Config, load_config


def config_of(environment: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The settings in this environment alone. Each file of a secret that it names is one below `folder`.
    Raises what `load_config` raises, for unknown names and invalid values."""
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("LARES_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if value.startswith("/run/secrets/"):
            file = folder / value.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x" * 32)
            value = str(file)
        monkeypatch.setenv(name, value)
    return load_config(home=folder / "home")

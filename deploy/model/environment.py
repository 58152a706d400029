"""Starts `lares model export` in the environment that has torch."""

import os
from collections.abc import Sequence
from pathlib import Path

from mesh.problems import NotFound

ROOT = Path(__file__).parents[2]
# The project is last on the path: if it is installed in site-packages, the other packages there must not take
# precedence over those of the export's environment.
START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from deploy.model.export import main; main(sys.argv[1:])"
)


def export(arguments: Sequence[str], python: Path | None) -> None:
    """Replaces this process by the export, with the arguments of deploy.model.export. Raises NotFound."""
    command = command_of(arguments, python)
    os.execv(command[0], command)  # noqa: S606


def command_of(arguments: Sequence[str], python: Path | None, root: Path = ROOT) -> list[str]:
    """The default of `python` is the export environment in `root`. Raises NotFound NO_EXPORT_ENVIRONMENT,
    whose message says how to create it."""
    python = python or root / ".venv-export" / "bin" / "python"
    if not os.access(python, os.X_OK) or python.is_dir():
        raise NotFound(
            f"there is no {python}: the export needs an environment of its own (torch, 3.9 GB); "
            f"run `make model-export FROM=... OUT=...`, or set LARES_EXPORT_PYTHON",
            "NO_EXPORT_ENVIRONMENT",
        )
    return [str(python), "-P", "-c", START, str(root), *arguments]

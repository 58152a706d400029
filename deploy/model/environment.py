"""`lares model export` from here: into the environment where torch is."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.problems import NotFound

ROOT = Path(__file__).parents[2]
SETTING = "LARES_EXPORT_PYTHON"
# Our code comes last on the path: where it lies beside other packages, theirs must not win over torch's.
START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from deploy.model.export import main; main(sys.argv[1:])"
)


def export(arguments: Sequence[str]) -> None:
    """Becomes the export, with `arguments` of deploy.model.export; comes back only by raising NotFound."""
    command = command_of(arguments, os.environ)
    os.execv(command[0], command)  # noqa: S606


def command_of(arguments: Sequence[str], variables: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """Raises NotFound NO_EXPORT_ENVIRONMENT, which says how to make it."""
    python = Path(variables.get(SETTING) or root / ".venv-export" / "bin" / "python")
    if not os.access(python, os.X_OK) or python.is_dir():
        raise NotFound(
            f"there is no {python}: the export has an environment of its own (torch, 3.9 GB); "
            f"run `make model-export FROM=... OUT=...`, or set {SETTING}",
            "NO_EXPORT_ENVIRONMENT",
        )
    return [str(python), "-P", "-c", START, str(root), *arguments]

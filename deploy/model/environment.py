"""`lares model export` from here: into the environment where torch is."""

import os
from collections.abc import Sequence
from pathlib import Path

from mesh.problems import NotFound

ROOT = Path(__file__).parents[2]
# Our code comes last on the path: where it lies beside other packages, theirs must not win over torch's.
START = (
    "import sys; sys.path.append(sys.argv.pop(1)); from deploy.model.export import main; main(sys.argv[1:])"
)


def export(arguments: Sequence[str], python: Path | None) -> None:
    """Becomes the export, with `arguments` of deploy.model.export; comes back only by raising NotFound."""
    command = command_of(arguments, python)
    os.execv(command[0], command)  # noqa: S606


def command_of(arguments: Sequence[str], python: Path | None, root: Path = ROOT) -> list[str]:
    """`python` None: that of `root`. Raises NotFound NO_EXPORT_ENVIRONMENT, which says how to make it."""
    python = python or root / ".venv-export" / "bin" / "python"
    if not os.access(python, os.X_OK) or python.is_dir():
        raise NotFound(
            f"there is no {python}: the export has an environment of its own (torch, 3.9 GB); "
            f"run `make model-export FROM=... OUT=...`, or set LARES_EXPORT_PYTHON",
            "NO_EXPORT_ENVIRONMENT",
        )
    return [str(python), "-P", "-c", START, str(root), *arguments]

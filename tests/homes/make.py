"""`python -m tests.homes.make` creates the home of commit 09640b9 and its outcome, with its own code.

Both are checked in, so this is needed only to change what is in the home.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.homes.home import GOLDEN, pack, unpack

COMMIT = "09640b949421ef5a02313339549525da718b78f4"
ROOT = Path(__file__).parents[2]


def check_out(folder: Path) -> None:
    """Writes the tree of COMMIT. Raises CalledProcessError if this clone does not have the commit."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)


def run_with_tree(tree: Path, script: str, *arguments: object) -> None:
    """Runs a script of this folder with the code of the tree."""
    path = os.pathsep.join((str(tree), str(tree / "proto" / "gen")))
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    subprocess.run(command, cwd=tree, env=os.environ | {"PYTHONPATH": path}, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lares-r0-") as scratch:
        folder = Path(scratch)
        tree = folder / "tree"
        tree.mkdir()
        check_out(tree)
        run_with_tree(tree, "r0_make.py", folder / "home")
        pack(folder / "home")
        outcomes = []
        for run in ("first", "second"):
            asyncio.run(unpack(folder / run))
            run_with_tree(tree, "r0_outcome.py", folder / run, folder / f"{run}.json")
            outcomes.append((folder / f"{run}.json").read_text())
        if outcomes[0] != outcomes[1]:
            sys.exit("two runs on the same home have different outcomes, so nothing was written")
        GOLDEN.write_text(outcomes[0])


if __name__ == "__main__":
    main()

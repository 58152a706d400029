"""`python -m tests.homes.make`: the home of before issue 7 and its outcome, made by the code of its time.

Nobody needs it but to change what is in the home: both are checked in.
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
    """The tree of COMMIT. Raises CalledProcessError where this clone does not hold it."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)


def run_there(tree: Path, script: str, *arguments: object) -> None:
    """A script that lies beside this file, with the tree's code."""
    path = os.pathsep.join((str(tree), str(tree / "proto" / "gen")))
    words = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    subprocess.run(words, cwd=tree, env=os.environ | {"PYTHONPATH": path}, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lares-r0-") as scratch:
        folder = Path(scratch)
        tree = folder / "tree"
        tree.mkdir()
        check_out(tree)
        run_there(tree, "r0_make.py", folder / "home")
        pack(folder / "home")
        outcomes = []
        for run in ("first", "second"):
            asyncio.run(unpack(folder / run))
            run_there(tree, "r0_outcome.py", folder / run, folder / f"{run}.json")
            outcomes.append((folder / f"{run}.json").read_text())
        if outcomes[0] != outcomes[1]:
            sys.exit("two runs of the same code on the same home come to different ends: nothing is written")
        GOLDEN.write_text(outcomes[0])


if __name__ == "__main__":
    main()

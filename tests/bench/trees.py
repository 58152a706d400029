"""Compares this tree with an earlier commit. They run in pairs, so that other work on the machine affects
both alike."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Samples
from tests.support.lares import ROOT, Lares

# The last commit before the work on speed began.
BEFORE = "924c459"
NOW = "now"


@dataclass(frozen=True)
class Bench:
    """What a measure receives: an empty folder, the checkouts to compare, how many pairs of runs, the names
    of all measures that are wanted, and how many photos `drain` has.

    `trees` always has `now`, this tree, and `before` if there is an earlier commit to compare it with.
    """

    folder: Path
    trees: dict[str, Path]
    pairs: int
    wanted: frozenset[str]
    photos: int = 100_000


@contextmanager
def checkouts(revision: str) -> Iterator[dict[str, Path]]:
    """Yields this tree, and that of the commit in a temporary work tree. The commit is left out, which is
    printed, if this clone does not have it."""
    trees = {NOW: ROOT}
    if not revision:
        yield trees
        return
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{revision}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        print(f"no comparison: this clone has no commit {revision} (a shallow one has the newest only)")
        yield trees
        return
    with tempfile.TemporaryDirectory(prefix="lares-before-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", tree, revision], cwd=ROOT, check=True)
        try:
            yield {"before": tree, **trees}
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def code_of(tree: Path) -> dict[str, str]:
    """The environment variable with which Python imports the code of this tree."""
    return {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "proto" / "gen")])}


@asynccontextmanager
async def lares_of(tree: Path, home: Path) -> AsyncIterator[Lares]:
    """Starts a Lares with the code of this tree and waits until it is ready; stops it at the end."""
    lares = Lares(home, code_of(tree), tree=tree)
    lares.start()
    try:
        await lares.ready()
        yield lares
    finally:
        await lares.close()


async def in_pairs(
    bench: Bench, pairs: int, once: Callable[[Path, Path], Awaitable[dict[str, float]]]
) -> dict[str, Samples]:
    """Runs `once` with each tree and a new folder, and returns the figures that it returned, by name.

    The order within a pair alternates. Prints each figure to standard error, as the runs take minutes.
    """
    samples: dict[str, Samples] = {}
    for pair in range(pairs):
        for name in sorted(bench.trees, reverse=pair % 2 == 1):
            folder = bench.folder / f"{pair}-{name}"
            figures = await once(bench.trees[name], folder)
            shutil.rmtree(folder, ignore_errors=True)
            for figure, value in figures.items():
                found = samples.setdefault(figure, Samples())
                (found.now if name == NOW else found.before).append(value)
                print(f"pair {pair + 1} of {pairs}: {name:<6} {figure:<34} {value:.6g}", file=sys.stderr)
    return samples

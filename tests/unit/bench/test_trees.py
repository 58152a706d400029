"""Benchmarks of this tree and of an earlier commit."""

import subprocess
from pathlib import Path

import pytest

from tests.bench import trees
from tests.bench.trees import Bench, checkouts, in_pairs


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of one commit, which is measured as if it were this one."""
    folder = tmp_path / "clone"
    git(tmp_path, "init", "-q", folder)
    (folder / "Makefile").touch()
    git(folder, "add", "Makefile")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "-m", "the first one")
    monkeypatch.setattr(trees, "ROOT", folder)
    return folder


def git(folder: Path, *arguments: str | Path) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_earlier_commit_is_checked_out_and_removed_afterwards(clone: Path) -> None:
    (clone / "Makefile").write_text("changed since")
    with checkouts("HEAD") as found:
        assert found["now"] == clone
        assert (found["before"] / "Makefile").read_text() == ""
        assert str(found["before"]) in git(clone, "worktree", "list")
    assert not found["before"].exists()
    assert str(found["before"]) not in git(clone, "worktree", "list")


def test_a_clone_without_the_commit_has_no_comparison(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with checkouts("924c459") as found:
        assert found == {"now": clone}
    assert "this clone has no commit 924c459" in capsys.readouterr().out
    with checkouts("") as found:
        assert found == {"now": clone}


async def test_the_order_within_a_pair_alternates(tmp_path: Path) -> None:
    order: list[str] = []

    async def once(tree: Path, folder: Path) -> dict[str, float]:
        folder.mkdir()
        order.append(tree.name)
        return {"photo": float(len(order))}

    both = {"before": Path("earlier"), "now": Path("this")}
    found = await in_pairs(Bench(tmp_path, both, 3, frozenset()), 3, once)
    assert order == ["earlier", "this", "this", "earlier", "earlier", "this"]
    assert (found["photo"].before, found["photo"].now) == ([1.0, 4.0, 5.0], [2.0, 3.0, 6.0])
    assert list(tmp_path.iterdir()) == []

"""Checks names across the product: `python -m deploy.names` lists violations and exits with status 1.

No two modules define a public class of the same name, no module has a retired name, and no identifier in the
code or the contracts uses a word that the glossary has retired.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("deploy", "detect_svc", "gateway", "ingest_svc", "mesh", "reason_svc", "store_svc")
# Applied migrations are history: they name tables and columns as these were called then.
HISTORY = "store_svc/migrations/versions"

# Names that said nothing about what the module holds, or that said it in a retired word.
RETIRED_MODULES = frozenset(
    {
        "account",
        "archive",
        "backlog",
        "book",
        "catalogue",
        "children",
        "closing",
        "deciding",
        "desk",
        "drawing",
        "endpoint",
        "families",
        "faults",
        "fence",
        "following",
        "intake",
        "journal",
        "judge",
        "judging",
        "ledger",
        "lookout",
        "opening",
        "quiet",
        "reading",
        "renderings",
        "replies",
        "settling",
        "sightings",
        "snapshots",
        "squares",
        "stubs",
        "talk",
        "tally",
        "tether",
        "tree",
        "verdict",
        "wakeups",
        "watch",
        "wire",
    }
)
RETIRED_WORDS = re.compile(r"judg|verdict|wish|sighting", re.IGNORECASE)


def main() -> int:
    wrong = [*repeated_classes(ROOT), *retired_modules(ROOT), *retired_words(ROOT)]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


def repeated_classes(root: Path) -> Iterator[str]:
    """Yields a line for each public class name that several modules below `root` define."""
    modules: dict[str, list[str]] = defaultdict(list)
    for path in _modules(root):
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(_shown(path, root))
    for name, paths in sorted(modules.items()):
        if len(paths) > 1:
            yield f"class {name} is defined in {', '.join(paths)}"


def retired_modules(root: Path) -> Iterator[str]:
    """Yields a line for each module, or test of one, with a retired name."""
    for path in [*_modules(root), *sorted((root / "tests").rglob("*.py"))]:
        if path.stem.removeprefix("test_") in RETIRED_MODULES:
            yield f"{_shown(path, root)}: the name {path.stem!r} is retired"


def retired_words(root: Path) -> Iterator[str]:
    """Yields a line for each identifier in the code or the contracts that uses a retired word."""
    for path in _modules(root):
        names = {name for node in ast.walk(_tree(path)) for name in _identifiers(node)}
        for name in sorted(names):
            if RETIRED_WORDS.search(name):
                yield f"{_shown(path, root)}: {name} uses a retired word (docs/glossary.md)"
    for path in sorted((root / "proto" / "lares").rglob("*.proto")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if RETIRED_WORDS.search(line.partition("//")[0]) and "reserved" not in line:
                yield f"{_shown(path, root)}:{number}: a name uses a retired word (docs/glossary.md)"


def _identifiers(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, (ast.arg, ast.keyword)):
        yield node.arg or ""


def _modules(root: Path) -> list[Path]:
    paths = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return sorted(path for path in paths if HISTORY not in path.as_posix())


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


if __name__ == "__main__":
    sys.exit(main())

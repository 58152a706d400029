"""Checks names across the product: `python -m deploy.names` lists what is wrong and exits with 1.

A public class has one name in the product, and only one class has that name; no module has a name that was
retired; and no identifier in the code or the contracts uses a word that the glossary has retired.
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
        "book",
        "desk",
        "families",
        "fence",
        "intake",
        "judge",
        "judging",
        "lookout",
        "quiet",
        "settling",
        "sightings",
        "squares",
        "stubs",
        "talk",
        "tally",
        "tether",
        "tree",
        "verdict",
        "watch",
        "wire",
    }
)
RETIRED_WORDS = re.compile(r"judg|verdict|wish|sighting", re.IGNORECASE)


def main() -> int:
    wrong = [*repeated_classes(), *retired_modules(), *retired_words()]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


def repeated_classes() -> Iterator[str]:
    """A line for each public class name that several modules define."""
    modules: dict[str, list[str]] = defaultdict(list)
    for path in _modules():
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(_shown(path))
    for name, paths in sorted(modules.items()):
        if len(paths) > 1:
            yield f"class {name} is defined in {', '.join(paths)}"


def retired_modules() -> Iterator[str]:
    for path in [*_modules(), *sorted((ROOT / "tests").rglob("*.py"))]:
        if path.stem.removeprefix("test_") in RETIRED_MODULES:
            yield f"{_shown(path)}: the name {path.stem!r} is retired"


def retired_words() -> Iterator[str]:
    """Identifiers in Python and in the contracts. Prose is not checked here."""
    for path in _modules():
        names = {name for node in ast.walk(_tree(path)) for name in _identifiers(node)}
        for name in sorted(names):
            if RETIRED_WORDS.search(name):
                yield f"{_shown(path)}: {name} uses a retired word (docs/glossary.md)"
    for path in sorted((ROOT / "proto" / "lares").rglob("*.proto")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if RETIRED_WORDS.search(line.partition("//")[0]) and "reserved" not in line:
                yield f"{_shown(path)}:{number}: a name uses a retired word (docs/glossary.md)"


def _identifiers(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, (ast.arg, ast.keyword)):
        yield node.arg or ""


def _modules() -> list[Path]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in paths if HISTORY not in path.as_posix())


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    sys.exit(main())

"""The check of names, on a small tree of its own."""

from pathlib import Path

import pytest

from deploy.names import repeated_classes, retired_modules, retired_words


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "mesh/bus.py": "class Bus: ...\nclass _Private: ...\n",
        "gateway/schema/event.py": "class Event: ...\nclass _Private: ...\n",
        "store_svc/migrations/versions/0001_first.py": "class Event: ...\ndef judge(): ...\n",
        "proto/lares/v1/event.proto": 'message Event {\n  // The verdict.\n  reserved "judge_state";\n}\n',
        "tests/unit/test_bus.py": "class Bus: ...\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_tree_without_violations(tree: Path) -> None:
    assert [*repeated_classes(tree), *retired_modules(tree), *retired_words(tree)] == []


def test_two_public_classes_of_one_name(tree: Path) -> None:
    (tree / "deploy").mkdir()
    (tree / "deploy/part.py").write_text("class Event: ...\n")
    assert list(repeated_classes(tree)) == [
        "class Event is defined in deploy/part.py, gateway/schema/event.py",
    ]


def test_modules_with_a_retired_name(tree: Path) -> None:
    for name in ("mesh/tether.py", "tests/unit/test_desk.py"):
        (tree / name).write_text("")
    assert list(retired_modules(tree)) == [
        "mesh/tether.py: the name 'tether' is retired",
        "tests/unit/test_desk.py: the name 'test_desk' is retired",
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def judge(): ...", "judge"),
        ("class Verdict: ...", "Verdict"),
        ("def ask(wish): ...", "wish"),
        ("ask(judgement=1)", "judgement"),
        ("print(event.sightings)", "sightings"),
    ],
)
def test_identifiers_with_a_retired_word(tree: Path, code: str, name: str) -> None:
    (tree / "mesh/names.py").write_text(f'{code}\nprose = "a verdict"\n')
    assert list(retired_words(tree)) == [f"mesh/names.py: {name} uses a retired word (docs/glossary.md)"]


def test_fields_of_messages_with_a_retired_word(tree: Path) -> None:
    path = tree / "proto/lares/v1/event.proto"
    path.write_text("message Event {\n  string verdict = 1;\n}\n")
    assert list(retired_words(tree)) == [
        "proto/lares/v1/event.proto:2: a name uses a retired word (docs/glossary.md)"
    ]

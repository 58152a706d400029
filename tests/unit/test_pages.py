"""The generated parts of the pages, and the examples on them."""

import json
import re
from pathlib import Path

import pytest
from graphql import parse, validate

from deploy import pages
from gateway.schema import make_schema
from mesh.config import Config
from mesh.problems import Invalid
from mesh.topics import TOPICS
from reason_svc.rules.v1.scoring import assess
from reason_svc.rules.v1.weights import CLASSES
from reason_svc.severity import SeverityThresholds
from tests.support.evidence import NIGHT, detections, evidence

TABLE = "<!-- made by deploy/pages.py: {0} -->\n<!-- end: {0} -->\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pages whose generated tables are empty."""
    for page, tables in pages.PAGES.items():
        path = tmp_path / page
        path.parent.mkdir(exist_ok=True)
        if not callable(tables):
            path.write_text("before\n" + "\n".join(TABLE.format(name) for name in tables) + "after\n")
    return tmp_path


def test_the_committed_pages_are_up_to_date() -> None:
    assert pages.write_pages(pages.ROOT, check=True) == []


def test_check_lists_outdated_pages_and_does_not_change_them(root: Path) -> None:
    before = (root / "README.md").read_text()
    assert pages.write_pages(root, check=True) == list(pages.PAGES)
    assert (root / "README.md").read_text() == before


def test_writing_fills_the_tables_and_keeps_the_rest(root: Path) -> None:
    assert pages.write_pages(root, check=False) == list(pages.PAGES)
    assert pages.write_pages(root, check=False) == []
    text = (root / "docs/topics.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_command_fails_if_a_page_is_outdated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", root)
    with pytest.raises(SystemExit, match=r"^not up to date: README\.md, docs/topics\.md, docs/"):
        pages.main(["--check"])
    pages.main([])
    pages.main(["--check"])


def test_a_page_without_its_markers_is_refused(root: Path) -> None:
    (root / "README.md").write_text("<!-- made by deploy/pages.py: settings -->\nno end\n")
    with pytest.raises(Invalid, match=r"README\.md needs the lines"):
        pages.write_pages(root, check=True)


def test_every_setting_and_every_topic_has_a_row(root: Path) -> None:
    pages.write_pages(root, check=False)
    readme = (root / "README.md").read_text()
    for name, field in Config.model_fields.items():
        (row,) = re.findall(rf"^\| `LARES_{name.upper()}` .*$", readme, re.MULTILINE)
        assert field.description
        assert field.description in row
    assert "| `LARES_GATEWAY_LISTEN` | `127.0.0.1:8000` |" in readme
    topics = (root / "docs/topics.md").read_text()
    for topic in TOPICS:
        assert f"| `{topic.name}` | `{topic.message.DESCRIPTOR.full_name}` |" in topics
    assert "`detect.dead.v1`" in topics


def test_every_class_has_a_row_with_its_points(root: Path) -> None:
    pages.write_pages(root, check=False)
    text = (root / "docs/risk.md").read_text()
    for label, (kind, points) in CLASSES.items():
        assert f"| `{label}` | {kind.name} | {points:+d} |" in text


def test_the_examples_on_the_page_about_risk_are_correct() -> None:
    examples = {
        "a cat by day": evidence(detections(["cat"])),
        "a car by day": evidence(detections(["car"])),
        "a car by day, and the detector is sure": evidence(detections(["car"], score=0.8)),
        "a person by day": evidence(detections(["person"])),
        "a person at night": evidence(detections(["person"], at=NIGHT)),
        "two people for 30 s at night, after another event": evidence(
            detections(["person", "person"], ["person"], at=NIGHT, every=30), past=1
        ),
    }
    text = (pages.ROOT / "docs/risk.md").read_text()
    for words, event in examples.items():
        score = assess(event).score
        assert f"| {words} | {score} | {SeverityThresholds().severity(score)} |" in text


def test_the_queries_in_the_readme_are_valid() -> None:
    text = (pages.ROOT / "README.md").read_text()
    written = re.findall(r"```graphql\n(.*?)```", text, re.DOTALL)
    sent = [json.loads(body)["query"] for body in re.findall(r"-d '(\{.*?\})'", text, re.DOTALL)]
    assert len(written) == 6
    assert len(sent) == 2
    schema = make_schema()._schema
    for query in [*written, *sent]:
        assert validate(schema, parse(query)) == [], query


def test_the_queries_of_the_page_about_clips_are_valid() -> None:
    text = (pages.ROOT / "docs/clips.md").read_text()
    (query,) = re.findall(r"```graphql\n(.*?)```", text, re.DOTALL)
    assert validate(make_schema()._schema, parse(query)) == []


def test_links_between_pages_are_valid() -> None:
    for page in (*pages.ROOT.glob("*.md"), *pages.ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"

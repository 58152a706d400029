"""Generates the parts of pages that describe code: `python -m deploy.pages`; `--check` only compares."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from deploy import rules_page
from gateway.http import metrics as of_gateway
from gateway.schema import make_schema
from mesh import job_client as of_jobs
from mesh import readiness as of_readiness
from mesh.bus import measures as of_bus
from mesh.config import Config, is_secret, setting
from mesh.problems import Invalid
from mesh.rpc import interceptor as of_rpc
from mesh.setting_values import as_text
from mesh.telemetry import metrics as of_process
from mesh.telemetry.metrics import Instrument
from mesh.tls import tls as of_tls
from mesh.topics import (
    DAYS,
    DEAD_LETTER_RETENTION_SECONDS,
    DEAD_LETTER_SERVICES,
    TOPICS,
    Topic,
    dead_letters,
)
from reason_svc import measures as of_reasoner
from reason_svc.rules.v1.weights import (
    CLASSES,
    CONFIDENCE,
    HOURS,
    KINDS,
    OTHER,
    ObjectKind,
    Steps,
    hour_points,
)
from store_svc.database import measures as of_database

ROOT = Path(__file__).parents[1]

INSTRUMENTS = [
    instrument
    for module in (
        of_readiness,
        of_process,
        of_tls,
        of_rpc,
        of_bus,
        of_jobs,
        of_reasoner,
        of_database,
        of_gateway,
    )
    for instrument in module.INSTRUMENTS
]

# The function that generates each table, by the table's name.
Tables = Mapping[str, Callable[[], str]]


def main(arguments: list[str] | None = None) -> None:
    """Updates the pages; with `--check` lists outdated ones instead and exits with status 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args(arguments).check
    try:
        stale = write_pages(ROOT, check=check)
    except Invalid as problem:
        sys.exit(problem.message)
    if check and stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run `make format`")


def write_pages(root: Path, *, check: bool) -> list[str]:
    """Updates the pages under `root`, unless `check` is set. Returns those that were outdated.

    Raises Invalid NO_MARKERS.
    """
    stale = []
    for page, make in PAGES.items():
        path = root / page
        before = path.read_text() if path.exists() else ""
        after = make() if callable(make) else filled(before, make, page)
        if after != before:
            stale.append(page)
            if not check:
                path.write_text(after)
    return stale


def filled(text: str, tables: Tables, page: str) -> str:
    """Replaces all tables in `text`. Raises Invalid NO_MARKERS."""
    for name, make in tables.items():
        text = fill(text, name, make(), page)
    return text


def fill(text: str, name: str, table: str, page: str) -> str:
    """Puts `table` between the two markers with that name in `text`. Raises Invalid NO_MARKERS."""
    opening, closing = f"<!-- made by deploy/pages.py: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = text.partition(opening)
    _, closed, after = rest.partition(closing)
    if not (found and closed):
        raise Invalid(f"{page} needs the lines {opening.strip()} and {closing}", "NO_MARKERS")
    return f"{before}{opening}\n{table}\n{closing}{after}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a table in GitHub's Markdown."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def settings() -> str:
    rows = ((code(setting(name)), *_setting_row(name, field)) for name, field in Config.model_fields.items())
    return table(["Setting", "Default", "Meaning"], rows)


def _setting_row(name: str, field: FieldInfo) -> tuple[str, str]:
    meaning = field.description or ""
    if is_secret(name):
        meaning += f" Or {code(setting(name) + '_FILE')}."
    if get_origin(field.annotation) is Literal:
        meaning += f" One of {', '.join(code(choice) for choice in get_args(field.annotation))}."
    return code(as_text(field.default)), meaning


def topics() -> str:
    head = ["Topic", "Message", "Key", "Partitions", "Kept", "Written by", "Read by"]
    return table(head, [*map(_topic_row, TOPICS), *map(_dead_letters_row, DEAD_LETTER_SERVICES)])


def _topic_row(topic: Topic[Any]) -> list[str]:
    seconds = topic.retention_seconds
    kept = "the latest of each key" if seconds is None else f"{seconds // DAYS} days"
    message = topic.message.DESCRIPTOR.full_name
    people = [", ".join(names) for names in (topic.producers, topic.consumers)]
    partitions = str(topic.partitions or code(setting("topic_partitions")))
    return [code(topic.name), code(message), topic.key_name, partitions, kept, *people]


def _dead_letters_row(service: str) -> list[str]:
    kept = f"{DEAD_LETTER_RETENTION_SECONDS // DAYS} days"
    return [
        code(dead_letters(service)),
        "the original bytes",
        "the original key",
        "1",
        kept,
        service,
        "people",
    ]


def metrics() -> str:
    rows = ((code(_shown(each)), each.kind, each.meaning) for each in INSTRUMENTS)
    return table(["Metric", "Kind", "Meaning"], rows)


def _shown(instrument: Instrument) -> str:
    labels = ",".join(instrument.labels)
    return f"{instrument.name}{{{labels}}}" if labels else instrument.name


def kafka_access() -> str:
    """What each service of Lares needs of a Kafka, by the table of topics."""
    services = dict.fromkeys(name for topic in TOPICS for name in (*topic.producers, *topic.consumers))
    head = ["Service", "Topics: Read", "Topics: Write", "Groups with this prefix: Read"]
    return table(head, (_access_row(service) for service in services if service != "analytics"))


def _access_row(service: str) -> list[str]:
    reads = [code(topic.name) for topic in TOPICS if service in topic.consumers]
    writes = [code(topic.name) for topic in TOPICS if service in topic.producers]
    letters = [code(dead_letters(service))] if service in DEAD_LETTER_SERVICES else []
    groups = code(f"{service}:") if letters else ""
    return [service, ", ".join(reads), ", ".join([*writes, *letters]), groups]


def additions() -> str:
    return _factors(rules_page.additions())


def reliefs() -> str:
    return _factors(rules_page.reliefs())


def _factors(rows: Iterable[rules_page.Row]) -> str:
    named = ((code(name), when, points) for name, when, points in rows)
    return table(["Factor", "When", "Points"], named)


def floors() -> str:
    return table(["At least", "When", "What lifts it"], rules_page.floors())


def classes() -> str:
    named = [(code(label), kind.name, f"{points:+d}") for label, (kind, points) in CLASSES.items()]
    other, points = OTHER
    return table(["Class", "Kind", "Points"], [*named, ("any other", other.name, f"{points:+d}")])


def circumstances() -> str:
    names = ["hour", "count", "dwell", "repeat", "confidence"]
    rows = ([kind.name, *_circumstance_row(kind)] for kind in KINDS)
    return table(["Kind", *map(code, names)], rows)


def _circumstance_row(kind: ObjectKind) -> list[str]:
    parts = dict.fromkeys(part for _, part in HOURS)
    hours = ", ".join(f"{part} {hour_points(kind, part):+d}" for part in parts)
    return [
        hours,
        _steps(kind.count, "{:g}"),
        _steps(kind.dwell, "{:g} s"),
        _steps(kind.repeat, "{:g}"),
        _steps(CONFIDENCE, "{:.0%}"),
    ]


def _steps(steps: Steps, form: str) -> str:
    return ", ".join(f"from {form.format(least)} {points:+d}" for least, points in steps)


def hours() -> str:
    return table(["From", "Part of the day"], ([f"{begins:%H:%M}", part] for begins, part in HOURS))


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def schema() -> str:
    return make_schema().as_str() + "\n"


# The function that generates each page, or the tables in it.
PAGES: dict[str, Callable[[], str] | Tables] = {
    "README.md": {"settings": settings},
    "docs/topics.md": {"topics": topics},
    "docs/metrics.md": {"metrics of a process": metrics},
    "docs/deploy.md": {"kafka access": kafka_access},
    "docs/risk.md": {
        "additions": additions,
        "reliefs": reliefs,
        "floors": floors,
        "classes": classes,
        "circumstances": circumstances,
        "hours": hours,
    },
    "docs/schema.graphql": schema,
}

if __name__ == "__main__":
    main()

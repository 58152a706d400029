"""The versioned prompts: one file each in `reason_svc/prompts`."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reason_svc.evidence import Evidence
from reason_svc.language_models.event_prompt import EventPrompt, event_prompts
from reason_svc.language_models.fact_prompt import fact_prompts
from reason_svc.language_models.model_answer import SCHEMA, SCHEMA_V2, example_texts, without_examples

FOLDER = Path(__file__).parents[1] / "prompts"


@dataclass(frozen=True, slots=True)
class PromptForm:
    """What belongs to a text: how the event is described, what is asked below that, and the answer's schema.
    All of it is part of the released prompts and does not change."""

    describe: Callable[[Evidence], list[EventPrompt]]
    question: str
    schema: dict[str, object]


# By the version up to a hyphen: `v1-short` has the form of `v1`.
FORMS = {
    "v1": PromptForm(event_prompts, "Judge this event. Answer with the JSON object.", SCHEMA),
    "v2": PromptForm(fact_prompts, "Assess this event. Answer with the JSON object.", SCHEMA_V2),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` is the same for every event, so that a server can cache it. `digest` is the hex SHA-256 of the
    file and the answer's schema, which belong together. `example` has the texts of its example of an answer,
    as `parse_answer` takes them; `text_without_example` describes the answer instead."""

    version: str
    form: PromptForm
    text: str
    digest: str
    example: frozenset[str]
    text_without_example: str


def load_prompts(folder: Path = FOLDER) -> dict[str, Prompt]:
    """Returns the prompts by version. The version is the file's name without `.md`."""
    prompts = (_load(path) for path in sorted(folder.glob("*.md"), key=lambda path: path.stem))
    return {prompt.version: prompt for prompt in prompts}


def _load(path: Path) -> Prompt:
    content = path.read_bytes()
    form = FORMS[path.stem.partition("-")[0]]
    # The order of the members is the order in which a model thinks, so it counts; v1 was released without.
    schema = json.dumps(form.schema, sort_keys=form.schema is SCHEMA).encode()
    digest = hashlib.sha256(content + b"\0" + schema).hexdigest()
    text = content.decode().strip()
    return Prompt(path.stem, form, text, digest, example_texts(text), without_examples(text))

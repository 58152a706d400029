"""The versioned prompts: one file each in `reason_svc/prompts`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from reason_svc.language_models.model_answer import SCHEMA, example_texts, without_examples

FOLDER = Path(__file__).parents[1] / "prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` is the same for every event, so that a server can cache it. `digest` is the hex SHA-256 of the
    file and the answer's schema, which belong together. `example` has the texts of its example of an answer,
    as `parse_answer` takes them; `text_without_example` describes the answer instead."""

    version: str
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
    schema = json.dumps(SCHEMA, sort_keys=True).encode()
    digest = hashlib.sha256(content + b"\0" + schema).hexdigest()
    text = content.decode().strip()
    return Prompt(path.stem, text, digest, example_texts(text), without_examples(text))

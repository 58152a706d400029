"""The prompts for a model: versioned files, each known by a hash."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from reason_svc.answer import SCHEMA

FOLDER = Path(__file__).with_name("prompts")


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` is the same for every event, so that a server reads it once. `digest` is the hex SHA-256 of the
    file and of the schema of the answer: the one is nothing without the other."""

    version: str
    text: str
    digest: str


def load_prompts(folder: Path = FOLDER) -> dict[str, Prompt]:
    """By version: the names of the files."""
    prompts = (_load(path) for path in sorted(folder.glob("*.md"), key=lambda path: path.stem))
    return {prompt.version: prompt for prompt in prompts}


def _load(path: Path) -> Prompt:
    content = path.read_bytes()
    schema = json.dumps(SCHEMA, sort_keys=True).encode()
    digest = hashlib.sha256(content + b"\0" + schema).hexdigest()
    return Prompt(path.stem, content.decode().strip(), digest)

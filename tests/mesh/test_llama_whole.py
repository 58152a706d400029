"""From a photo to a judgement of a language model: `lares up` with `llama:`, in a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import psutil
import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from reason_svc.language_models.prompts import load_prompts
from tests.support.lares import Lares, running_lares
from tests.support.llama import NAME
from tests.support.photos import person_photo

JUDGED = """{ events(first: 5) { edges { node { id status closed detections { edges { node { id label } } }
  assessment { score severity summary reasoner model promptHash promptTokens completionTokens durationSeconds
         rawAnswer rulesScore factors { name points text detectionIds } }
} } } status { reason { reasoner state model models prompt slots assessed failed promptTokens } } }"""
# The shorter one, for a machine without a GPU reads some dozens of tokens in a second.
PROMPT = "v1-short"


class Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[StrictStr, Field(max_length=160)]
    detections: Annotated[list[StrictInt], Field(max_length=8)]


class Answer(BaseModel):
    """The schema that a model is held to, told a second time."""

    model_config = ConfigDict(extra="forbid")
    reasons: Annotated[list[Reason], Field(min_length=1, max_length=4)]
    score: Annotated[StrictInt, Field(ge=0, le=100)]
    summary: Annotated[StrictStr, Field(max_length=240)]


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> AsyncIterator[Lares]:
    settings = {
        "LARES_REASONER_URL": f"llama:{smollm2}?ctx=2048&parallel=1",
        "LARES_REASON_PROMPT": PROMPT,
        "LARES_REASON_SECONDS": "270",
        "LARES_EVENT_GAP_SECONDS": "1",
        "LARES_EVENT_SPAN_SECONDS": "3",
    }
    async with running_lares(tmp_path_factory.mktemp("judged") / "home", settings) as started:
        yield started


async def test_a_photo_is_judged_by_a_model(lares: Lares) -> None:
    door = lares.cameras / "door"
    door.mkdir()
    (door / "1.jpg").write_bytes(person_photo().read_bytes())
    await lares.until_stored(1)
    await lares.idle(270)
    seen = await lares.graphql(JUDGED)
    (edge,) = seen["events"]["edges"]
    event = edge["node"]
    assessment = event["assessment"]
    assert (event["status"], event["closed"]) == ("ASSESSED", True)
    assert (assessment["reasoner"], assessment["model"]) == ("llama.cpp", NAME)
    assert assessment["promptHash"] == load_prompts()[PROMPT].digest
    assert assessment["promptTokens"] > 100
    assert assessment["completionTokens"] > 10
    assert assessment["durationSeconds"] > 0
    answer = Answer.model_validate_json(assessment["rawAnswer"])
    assert assessment["score"] == answer.score
    the_rules_stay_beside_it(assessment, {found["node"]["id"] for found in event["detections"]["edges"]})
    judge = seen["status"]["reason"]
    assert (judge["reasoner"], judge["state"], judge["model"]) == ("llama.cpp", "READY", NAME)
    assert (judge["prompt"], judge["slots"], judge["assessed"], judge["failed"]) == (PROMPT, 1, 1, 0)
    assert judge["promptTokens"] == assessment["promptTokens"]


def the_rules_stay_beside_it(assessment: Any, detections: set[str]) -> None:
    points = sum(factor["points"] for factor in assessment["factors"])
    assert points == assessment["rulesScore"] > 0
    by_model = [factor for factor in assessment["factors"] if factor["name"] == "reason"]
    assert by_model
    assert not any(factor["points"] for factor in by_model)
    assert {id for factor in assessment["factors"] for id in factor["detectionIds"]} <= detections


async def test_nobody_reads_its_key(lares: Lares) -> None:
    (server,) = lares.children("llama_server.py")
    key = psutil.Process(server.pid).environ()["LLAMA_KEY"]
    assert len(key) > 20
    assert key not in lares.log.read_text(errors="replace")
    assert key not in (await lares.get("/metrics")).text


async def test_it_goes_with_lares(lares: Lares) -> None:
    servers = lares.children("llama_server.py")
    lares.stop()
    assert servers
    assert not any(server.is_running() for server in servers)

"""`lares up` with a `llama:` model, from a photo to its assessment."""

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

QUERY = """{ events(first: 5) { edges { node { id status closed detections { edges { node { id label } } }
  assessment { score severity summary reasoner model promptHash promptTokens completionTokens durationSeconds
         rawAnswer rulesScore factors { name points text detectionIds } }
} } } status { reason { reasoner state model models prompt slots assessed failed promptTokens } } }"""
# The shorter one: without a GPU, a prompt is read at some dozens of tokens per second.
PROMPT = "v1-short"


class Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[StrictStr, Field(max_length=160)]
    detections: Annotated[list[StrictInt], Field(max_length=8)]


class Answer(BaseModel):
    """The schema of a model's answer, written independently."""

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
    async with running_lares(tmp_path_factory.mktemp("llama") / "home", settings) as started:
        yield started


async def test_a_photo_is_assessed_by_the_model(lares: Lares) -> None:
    door = lares.cameras / "door"
    door.mkdir()
    (door / "1.jpg").write_bytes(person_photo().read_bytes())
    await lares.until_stored(1)
    await lares.idle(270)
    seen = await lares.graphql(QUERY)
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
    assert_the_factors_of_the_rules_are_kept(
        assessment, {found["node"]["id"] for found in event["detections"]["edges"]}
    )
    status = seen["status"]["reason"]
    assert (status["reasoner"], status["state"], status["model"]) == ("llama.cpp", "READY", NAME)
    assert (status["prompt"], status["slots"], status["assessed"], status["failed"]) == (PROMPT, 1, 1, 0)
    assert status["promptTokens"] == assessment["promptTokens"]


def assert_the_factors_of_the_rules_are_kept(assessment: Any, detections: set[str]) -> None:
    points = sum(factor["points"] for factor in assessment["factors"])
    assert points == assessment["rulesScore"] > 0
    by_model = [factor for factor in assessment["factors"] if factor["name"] == "reason"]
    assert by_model
    assert not any(factor["points"] for factor in by_model)
    assert {id for factor in assessment["factors"] for id in factor["detectionIds"]} <= detections


async def test_its_key_is_in_no_log_and_no_metric(lares: Lares) -> None:
    (server,) = lares.children("llama_server.py")
    key = psutil.Process(server.pid).environ()["LLAMA_KEY"]
    assert len(key) > 20
    assert key not in lares.log.read_text(errors="replace")
    assert key not in (await lares.get("/metrics")).text


async def test_it_stops_with_lares(lares: Lares) -> None:
    servers = lares.children("llama_server.py")
    lares.stop()
    assert servers
    assert not any(server.is_running() for server in servers)

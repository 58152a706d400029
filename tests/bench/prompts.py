"""Measures the prompt tokens by the size of the event, and how many of them the server has in its cache.

Runs on llama.cpp with a small model, whose answers and speed do not matter here.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import httpx

from mesh.config import load_config
from mesh.problems import Internal
from reason_svc.evidence import Evidence
from reason_svc.language_models.prompts import load_prompts
from reason_svc.reasoner import ModelChoice, Reasoner, ReasonerReadiness, TokenUsage
from reason_svc.reasoner_factory import open_reasoner
from tests.bench.measure import Row
from tests.bench.trees import Bench
from tests.support.evidence import NIGHT, detections, evidence
from tests.support.llama import running_llama, smollm2_file
from tests.unit.reason_svc.rules.test_v2 import RESIDENT, event, seen

SLOTS, CONTEXT = 2, 4096  # tokens of one slot, the default
ANSWER_TOKENS = 1024  # tokens that the reasoner leaves free for the answer
ASSESS_SECONDS, LOAD_SECONDS = 1200.0, 300.0  # on a CPU


def _around_the_house(photos: int, people: int = 1) -> Evidence:
    """People who walk side by side from the street to the door, the window and back, in a home with zones and
    two notes."""
    feet = (0.35, 0.5, 0.75, 0.9)
    found = [
        seen(2 * number, feet[number // 4 % len(feet)], x=0.1 + 0.9 * person / people, width=0.5 / people)
        for number in range(photos)
        for person in range(people)
    ]
    notes = (
        "Painters work at the windows this week, Monday to Friday, 8 to 17.",
        "The side gate does not lock.",
    )
    return replace(event(found, mode="away", dark=True, person=RESIDENT), site_notes=notes)


# The last one is the largest possible description: 24 things that were in six places each, and 16 long notes.
SIZES: dict[str, Evidence] = {
    "1 detection": _around_the_house(1),
    "10 detections": _around_the_house(10),
    "30 detections": _around_the_house(30),
    "100 detections": _around_the_house(25, people=4),
    "500 detections": _around_the_house(25, people=20),
    "500 detections and long notes": replace(
        _around_the_house(25, people=20),
        site_notes=("A long note about the house and the garden. " * 11,) * 16,
    ),
}


async def measure(bench: Bench) -> list[Row]:
    model = await asyncio.to_thread(smollm2_file)
    config = load_config(home=bench.folder, reason_seconds=ASSESS_SECONDS)
    async with (
        running_llama(model, context=CONTEXT * SLOTS, parallel=SLOTS) as url,
        open_reasoner(config, url) as reasoner,
    ):
        await _until_loaded(reasoner)
        prefix = await _token_count(url, load_prompts()[config.reason_prompt].text)
        await _assess(reasoner, _visit(0), _visit(1))
        next_ones = await _assess(reasoner, _visit(2), _visit(3))
        sizes = {name: await _assess(reasoner, event) for name, event in SIZES.items()}
    cached = next_ones.cached
    return [
        *(_size(name, tokens.prompt) for name, tokens in sizes.items()),
        _cached("prompt cache, next events", cached, 2 * prefix, "common prefix", 0.95),
        _cached("prompt cache, next events", cached, next_ones.prompt, "whole prompt", 0.75),
    ]


def _visit(number: int) -> Evidence:
    """Returns an ordinary event; each number gives another time and camera."""
    at = NIGHT + timedelta(minutes=7 * number)
    return evidence(
        detections(["person"], ["person"], at=at, every=4), past=number % 3, camera_name=f"Camera {number}"
    )


async def _assess(reasoner: Reasoner, *events: Evidence) -> TokenUsage:
    """Assesses the events together and returns the tokens used. Bad answers are ignored."""
    before = reasoner.report().tokens

    async def one(event: Evidence) -> None:
        with suppress(Internal):
            await reasoner.assess(event, ModelChoice())

    await asyncio.gather(*map(one, events))
    after = reasoner.report().tokens
    return TokenUsage(
        after.prompt - before.prompt, after.cached - before.cached, after.completion - before.completion
    )


async def _until_loaded(reasoner: Reasoner) -> None:
    async with asyncio.timeout(LOAD_SECONDS):
        while reasoner.report().state is not ReasonerReadiness.READY:
            await asyncio.sleep(0.1)


async def _token_count(url: str, text: str) -> int:
    """Returns the number of tokens by the server's own count."""
    at = httpx.URL(url.removeprefix("openai+"))
    headers = {"authorization": f"Bearer {at.password}"}
    async with httpx.AsyncClient(timeout=60, headers=headers) as client:
        answer = await client.post(
            at.copy_with(userinfo=b"", path="/tokenize", query=None), json={"content": text}
        )
    return len(answer.raise_for_status().json()["tokens"])


def _size(name: str, tokens: int) -> Row:
    room = CONTEXT - ANSWER_TOKENS
    share = tokens / room
    return Row(
        f"prompt tokens, event of {name}", f"{tokens}", f"room {room}", f"{share:.2f}x", "<= 1x", share <= 1
    )


def _cached(measure: str, cached: int, of: int, what: str, least: float) -> Row:
    ratio = cached / of
    return Row(measure, f"{cached}", f"{what} {of}", f"{ratio:.2f}x", f">= {least:g}x", ratio >= least)

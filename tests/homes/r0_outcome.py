"""Brings the home of before issue 7 up by the code of its time, and writes down what becomes of it.

For a checkout of 09640b9 alone, with its code on the path: `make.py` runs it there, and no type check covers
it.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import scripted_model
from r0_home import Home, settings, values

from deploy.embedded.postgres import open_postgres
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import EventAssessed
from mesh.topics import (
    ASSESSED,
    DEAD_LETTER_SERVICES,
    dead_letters,
)
from tests.support.lares import Lares, running_lares
from tests.support.scripted_llm import scripted


async def write_outcome(folder: Path, out: Path) -> None:
    """Brings the home up with a model that works, and writes down where it comes to rest."""
    home = Home(folder)
    before = {row["id"] for row in await _while_down(home, "SELECT id FROM assessments")}
    async with scripted() as llm:
        llm.always = scripted_model.answers
        async with running_lares(folder, settings(llm)) as lares:
            await lares.idle()
            outcome = await read(home, lares, before)
    out.write_text(json.dumps(outcome, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


async def _while_down(home: Home, statement: str) -> list[asyncpg.Record]:
    async with open_postgres(home.folder):
        return await home.rows(statement)


async def read(home: Home, lares: Lares, before: set[UUID]) -> dict[str, Any]:
    """All of it by SQL, so that it owes nothing to the code which reads the outcome of later versions."""
    outcome: dict[str, Any] = {}
    outcome["cameras"] = {
        row["id"]: {
            "name": row["display_name"],
            "time_zone": row["time_zone"],
            "enabled": row["enabled"],
            "thresholds": {
                label: round(score, 4) for label, score in sorted(json.loads(row["thresholds"]).items())
            },
        }
        for row in await home.rows("SELECT * FROM cameras WHERE deleted_at IS NULL")
    }
    keys = await home.rows("SELECT name, revoked_at FROM api_keys ORDER BY name")
    outcome["keys"] = [[row["name"], "revoked" if row["revoked_at"] else "valid"] for row in keys]
    outcome["media"] = {
        str(row["id"]): {
            "camera": row["camera_id"],
            "sha256": row["sha256"],
            "captured_at": row["captured_at"].isoformat(),
            "detections": [],
        }
        for row in await home.rows("SELECT * FROM media")
    }
    events: dict[str, Any] = {
        str(row["id"]): {
            "camera": row["camera_id"],
            "status": row["status"],
            "closed": row["closed"],
            "started_at": row["started_at"].isoformat(),
            "ended_at": row["ended_at"].isoformat(),
            "labels": row["labels"],
            "detections": [],
            "digest": row["evidence_digest"],
            "assessment": str(row["assessment_id"]),
        }
        for row in await home.rows("SELECT * FROM events")
    }
    for row in await home.rows("SELECT * FROM detections ORDER BY id"):
        found = [str(row["id"]), row["label"], round(row["score"], 3)]
        outcome["media"][str(row["media_id"])]["detections"].append(found)
        events[str(row["event_id"])]["detections"].append(found[0])
    outcome["events"] = events
    # What was judged of an event that still grew differs from run to run, but for what the home holds.
    assessments = {}
    for row in await home.rows("SELECT * FROM assessments"):
        message = Assessment.FromString(row["body"])
        final = events[str(row["event_id"])]["digest"] == row["evidence_digest"]
        if final or row["id"] in before or message.raw_answer.find("unread") >= 0:
            assessments[str(row["id"])] = {
                "event": str(row["event_id"]),
                "digest": row["evidence_digest"],
                "request": str(row["request_id"] or ""),
                "score": row["score"],
                "severity": row["severity"],
                "summary": message.summary,
                "reasoner": message.reasoner,
                "model": message.model,
                "raw_answer": message.raw_answer,
                "factors": [[f.factor, f.points, f.text, list(f.detection_ids)] for f in message.factors],
            }
    outcome["assessments"] = assessments
    outcome["failures"] = {
        str(row["event_id"]): [row["reason"], str(row["given_up_request_id"] or "")]
        for row in await home.rows(
            "SELECT f.* FROM judgement_failures f JOIN events e ON e.failure_id = f.id"
        )
    }
    outcome["rejections"] = {
        str(row["id"]): [row["camera_id"], row["path"], row["reason"], row["detail"]]
        for row in await home.rows("SELECT * FROM rejections")
    }
    left = await home.rows(
        "SELECT id FROM events WHERE due_at IS NOT NULL OR request_id IS NOT NULL OR lease_id IS NOT NULL"
    )
    outcome["left"] = [str(row["id"]) for row in left]
    published: dict[str, int] = {}
    for value in await values(lares, ASSESSED.name):
        fact = EventAssessed.FromString(value)
        if fact.HasField("assessment"):
            name = f"{fact.event_id} {fact.evidence_digest} {fact.assessment.request_id}"
            if fact.assessment.id in assessments:
                published[name] = published.get(name, 0) + 1
    outcome["published"] = published
    # A set: a record that nothing follows in its partition is put there again at every start.
    outcome["dead_letters"] = {
        service: sorted(
            {hashlib.sha256(value).hexdigest() for value in await values(lares, dead_letters(service))}
        )
        for service in DEAD_LETTER_SERVICES
    }
    return outcome


if __name__ == "__main__":
    asyncio.run(write_outcome(Path(sys.argv[1]), Path(sys.argv[2])))

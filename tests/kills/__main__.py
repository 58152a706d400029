"""`make kills KILLS=20` runs the same photos and clips without and with kill -9, and prints each difference.

Half of the kills hit a Lares whose services call each other within their process, the other half one in which
they use a socket, as services of several processes do.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lares.store.v1.rendition_pb2 import RENDITION_STATE_READY
from tests.kills.amendments import ENTRY_DELAY
from tests.kills.household import AMENDED, AT_FIRST, PERSON_ID, SCHEDULED, Household
from tests.kills.reassessments import Request, make_requests
from tests.kills.renditions import KINDS
from tests.kills.run import RENDERING, Kills, RunResult, run_photos
from tests.kills.scenario import (
    DRIVE_CAMERA,
    GATE_CAMERA,
    HOUR,
    PORCH_CAMERA,
    Drop,
    clips,
    daily_visits,
    flawed_files,
    long_visit,
    porch_visits,
    single_photos,
    visiting_vehicle,
)
from tests.support.lares import CHANNELS
from tests.support.photos import empty_photo, people, small_photos, vehicle_photo

GAP, SPAN = 4.0, 12.0
# Longer than all runs before the last one take, and short enough that a photo's time is still plausible.
AHEAD = 4 * HOUR


def settings() -> dict[str, str]:
    # Short gaps, so that events close soon; few detections per event, so that this limit is reached; and
    # short leases, as every kill leaves some to expire.
    return {
        "LARES_EVENT_GAP_SECONDS": str(GAP),
        "LARES_EVENT_SPAN_SECONDS": str(SPAN),
        "LARES_EVENT_MAX_DETECTIONS": "8",
        "LARES_LEASE_SECONDS": "6",
        "LARES_ENTRY_DELAY_SECONDS": str(ENTRY_DELAY.total_seconds()),
    }


def household() -> Household:
    now = time.time()
    return Household(float(int(now)), (now + AHEAD) // HOUR * HOUR)


def scenario(cameras: int, photos: int, seed: int, home: Household, folder: Path) -> list[Drop]:
    """The clips are made in this folder."""
    samples, chance = small_photos(), random.Random(seed)
    visit = long_visit(samples, photos, GAP, SPAN, chance)
    others = [*single_photos(samples, cameras), *flawed_files(samples, max(3, cameras // 3))]
    vehicle = visiting_vehicle(vehicle_photo(), people()[0], empty_photo(), home.start)
    visit += [*vehicle, *daily_visits(people()[0], home.start)]
    visit += porch_visits(people()[3], len(AMENDED), home.began)
    visit += clips(people()[0], folder)
    return [*visit, *chance.sample(others, len(others))]


@dataclass(frozen=True)
class Comparison:
    """The run without kills, the runs with kills by channel, and a line for everything that is wrong."""

    reference: RunResult
    killed: dict[str, RunResult]
    wrong: list[str]


async def compare(
    folder: Path,
    home: Household,
    drops: list[Drop],
    requests: list[Request],
    kills: dict[str, Kills],
    originals: str,
) -> Comparison:
    """Runs the photos once without kills, and then with the kills of each channel.

    The runs with kills have `originals` as LARES_INGEST_ORIGINALS, and their services call each other through
    their channel. In the run without kills they call each other within the process.
    """
    reference = await run_photos(folder / "reference", home, drops, requests, settings(), None)
    wrong = problems_of_the_reference(reference, drops) + problems_of_the_evidence(reference, home)
    wrong += [f"without kills: {line}" for line in problems_of(reference, requests)]
    killed = {}
    for channel, kill in kills.items():
        own = settings() | {"LARES_INGEST_ORIGINALS": originals}
        killed[channel] = await run_photos(folder / channel, home, drops, requests, own, kill, channel)
        lines = problems_of_kills(killed[channel], reference, drops, channel, originals)
        wrong += [f"with kills, {channel}: {line}" for line in lines + problems_of(killed[channel], requests)]
    return Comparison(reference, killed, wrong)


def problems_of_the_reference(reference: RunResult, drops: list[Drop]) -> list[str]:
    """Returns what is wrong with the run without kills, by the photos that were dropped."""
    wrong = []
    valid = sum(drop.flaw is None for drop in drops)
    if len(reference.outcome.media) != valid:
        wrong.append(f"without kills: {len(reference.outcome.media)} media of {valid} valid files")
    rejected = {(node["path"], node["reason"]) for node in reference.outcome.rejections.values()}
    if rejected != {(drop.path, drop.flaw.reason) for drop in drops if drop.flaw}:
        wrong.append(f"without kills: unexpected rejections {sorted(rejected)}")
    of_clips = [media for media in reference.outcome.media.values() if media["kind"] == "CLIP"]
    if len(of_clips) != sum(drop.is_clip and drop.flaw is None for drop in drops):
        wrong.append(f"without kills: {len(of_clips)} clips")
    if not all(media["frames"] and media["detections"] for media in of_clips):
        wrong.append("without kills: a clip has no frames, or nothing was found in it")
    states = {rendition["kind"]: rendition["state"] for rendition in reference.outcome.renditions.values()}
    if states != dict.fromkeys(KINDS, RENDITION_STATE_READY):
        wrong.append(f"without kills: the states of renditions are {states}")
    return wrong


def problems_of_the_evidence(reference: RunResult, home: Household) -> list[str]:
    """Returns where the evidence of the run without kills is not what the house was told, and what of it no
    event has."""
    found = list(reference.outcome.evidence.values())
    wrong = []
    for one in found:
        started_at = datetime.fromisoformat(one["started_at"]).timestamp()
        if one.get("mode", "") != home.mode_at(started_at):
            wrong.append(f"the mode {one.get('mode')!r} at {one['started_at']}: {one['event_id']}")
    gate = [one for one in found if one["camera_id"] == GATE_CAMERA]
    drive = [one for one in found if one["camera_id"] == DRIVE_CAMERA]
    porch = [one for one in found if one["camera_id"] == PORCH_CAMERA]
    named = [track["identity"] for one in porch for track in one["tracks"] if "identity" in track]
    kinds = Counter(change["kind"] for one in drive for change in one.get("changes", ()))
    wanted = {
        "a mode of each kind": {one.get("mode", "") for one in gate} == {"", AMENDED[-1], *SCHEDULED},
        "a mode that was amended": reference.modes_before == [AT_FIRST, *AMENDED[:-1]],
        "a mode that was amended while the event was open": reference.amended_open > 0,
        "the people who were identified": sorted(one.get("person_id", "") for one in named)
        == ["", str(PERSON_ID), str(PERSON_ID)],
        "a person who has come home": any(one.get("present_person_ids") == [str(PERSON_ID)] for one in gate),
        "an expected visit": any(one.get("expected") for one in gate),
        "a habit": any(one.get("habits") for one in gate),
        "three vehicles that come and go": kinds == {"CHANGE_KIND_CAME": 3, "CHANGE_KIND_WENT": 3},
        "a visit of a zone": any(track.get("visits") for one in found for track in one.get("tracks", ())),
        "a stay in an earlier event": any(past.get("stays") for one in found for past in one.get("past", ())),
    }
    return [*wrong, *(f"the evidence lacks {name}" for name, is_there in wanted.items() if not is_there)]


def problems_of_kills(
    killed: RunResult, reference: RunResult, drops: list[Drop], channel: str, originals: str
) -> list[str]:
    """Returns what a run with kills has that differs from the run without, and what it did not test."""
    wrong = [f"different: {line}" for line in reference.outcome.differences(killed.outcome)]
    expected = {
        drop.path
        for drop in drops
        if not drop.is_upload and (originals == "keep" or (drop.flaw and drop.flaw.found_by_ingest))
    }
    for path in sorted(killed.originals ^ expected):
        state = "still in" if path in killed.originals else "missing from"
        wrong.append(f"{path} is {state} its folder, with LARES_INGEST_ORIGINALS={originals}")
    faults = killed.faults
    while_working = faults.while_assessing and faults.while_arriving >= faults.kills // 3
    # With a few kills none may have come at the right time.
    while_amending = faults.while_amending or faults.kills < 5
    while_rendering = faults.while_rendering or faults.kills <= RENDERING
    if not (
        while_amending
        and while_rendering
        and faults.while_ready
        and while_working
        and faults.requested_before_a_kill
    ):
        wrong.append(f"a fault did not happen: {faults}")
    if killed.channel != channel:
        wrong.append(f"the services called each other through {killed.channel}")
    return wrong


def problems_of(result: RunResult, requests: list[Request]) -> list[str]:
    """Returns what is wrong with one run, regardless of the other."""
    outcome, wrong = result.outcome, []
    if result.sequences != list(range(1, result.head + 1)):
        wrong.append(f"a subscriber received {result.sequences}, the head of the feed is {result.head}")
    found = {id: {one["id"] for one in node["detections"]} for id, node in outcome.media.items()}
    if result.kept != found:
        wrong.append(f"store.kept.v1 has the detections {result.kept}, the store {found}")
    not_assessed = [event["id"] for event in outcome.events.values() if event["status"] != "ASSESSED"]
    if not_assessed or not outcome.events:
        wrong.append(f"of {len(outcome.events)} events, these are not assessed: {not_assessed}")
    ends = {request.request_id: request.end for request in requests}
    if outcome.requests != ends:
        wrong.append(f"requests ended as {outcome.requests}, expected {ends}")
    if outcome.twice:
        wrong.append(f"assessed more than once: {outcome.twice}")
    if outcome.jobs:
        wrong.append(f"jobs are left: {outcome.jobs}")
    if not result.faults.failed_attempts:
        wrong.append("a fault did not happen: the model never failed")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often Lares is killed, over all channels")
    parser.add_argument("--cameras", type=int, default=30, help="cameras with one photo each")
    parser.add_argument("--photos", type=int, default=60, help="photos of the camera with many events")
    parser.add_argument(
        "--originals",
        choices=("keep", "take"),
        default="keep",
        help="LARES_INGEST_ORIGINALS in the runs with kills",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        choices=CHANNELS,
        default=CHANNELS,
        help="how the services call each other; by default one run with kills for each, with half of them",
    )
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the run with this seed")
    options = parser.parse_args()
    channels = list(dict.fromkeys(options.channels))
    if options.kills < 2 * len(channels):
        parser.error(
            "--kills must be at least 2 for each channel, as the first kill interrupts the first start"
        )
    print(f"seed {options.seed}")
    home = household()
    chance = random.Random(options.seed)
    kills = {
        channel: Kills((options.kills + place) // len(channels), chance)
        for place, channel in enumerate(channels)
    }
    with tempfile.TemporaryDirectory(prefix="lares-kills-") as folder:
        drops = scenario(options.cameras, options.photos, options.seed, home, Path(folder))
        requests = make_requests(drops, silent=3)
        found = asyncio.run(compare(Path(folder), home, drops, requests, kills, options.originals))
    print(f"without kills: {summary(found.reference)}")
    for channel, killed in found.killed.items():
        print(f"with kills, {channel}: {summary(killed)}")
    if found.wrong:
        sys.exit("\n".join(["FAILED:", *found.wrong]))
    print(
        "PASSED: all runs have the same media, frames, detections, events, labels, rejections, evidence, "
        "renditions and assessments. Nothing was assessed twice, every request was answered or given up, no "
        "job is left, and no feed has a gap."
    )


def summary(result: RunResult) -> str:
    outcome, faults = result.outcome, result.faults
    return (
        f"{result.seconds:.0f} s, {faults.kills} kills ({faults.while_ready} while ready, "
        f"{faults.while_assessing} while the model worked, {faults.while_arriving} while photos arrived, "
        f"{faults.while_amending} while evidence was amended, "
        f"{faults.while_rendering} while renditions were waited for), "
        f"{faults.failed_attempts} failed attempts of the model, "
        f"{faults.requested_before_a_kill} requests before the last kill; "
        f"{len(outcome.media)} media, {len(outcome.events)} events, {len(outcome.rejections)} rejections, "
        f"{len(outcome.requests)} requests, feed head {result.head}"
    )


if __name__ == "__main__":
    main()

"""`make faults KILLS=20`: a golden run, the same photos under kill -9, and every difference."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.requests import Request, make_requests
from tests.faults.run import Kills, Result, perform
from tests.faults.scenario import Drop, flawed, lonely, long_visit
from tests.support.photos import small_photos

GAP, SPAN = 4.0, 12.0


def settings() -> dict[str, str]:
    """Short gaps, so that events close soon; few detections to an event, so that its count limit is met; and
    short leases, for each kill leaves some."""
    return {
        "LARES_EVENT_GAP_SECONDS": str(GAP),
        "LARES_EVENT_SPAN_SECONDS": str(SPAN),
        "LARES_EVENT_MAX_DETECTIONS": "8",
        "LARES_LEASE_SECONDS": "6",
    }


def scenario(cameras: int, photos: int, seed: int) -> list[Drop]:
    samples, chance = small_photos(), random.Random(seed)
    visit = long_visit(samples, photos, GAP, SPAN, chance)
    others = [*lonely(samples, cameras), *flawed(samples, max(3, cameras // 3))]
    return [*visit, *chance.sample(others, len(others))]


async def compare(
    folder: Path, drops: list[Drop], requests: list[Request], kills: Kills, originals: str
) -> tuple[Result, Result, list[str]]:
    """The golden run, the run under kills (with `originals` as the setting), and what is wrong with them."""
    golden = await perform(folder / "golden", drops, requests, settings(), None)
    with_originals = settings() | {"LARES_INGEST_ORIGINALS": originals}
    struck = await perform(folder / "struck", drops, requests, with_originals, kills)
    wrong = golden.outcome.differences(struck.outcome)
    sound = sum(drop.flaw is None for drop in drops)
    if len(golden.outcome.media) != sound:
        wrong.append(f"golden: media {len(golden.outcome.media)}, sound photos dropped {sound}")
    rejected = {(node["path"], node["reason"]) for node in golden.outcome.rejections.values()}
    if rejected != {(drop.path, drop.flaw.reason) for drop in drops if drop.flaw}:
        wrong.append(f"golden: rejected {sorted(rejected)}")
    kept = {drop.path for drop in drops if originals == "keep" or (drop.flaw and drop.flaw.plain)}
    if struck.originals != kept:
        wrong.append(f"struck: with {originals}, these are left or gone: {struck.originals ^ kept}")
    for name, result in (("golden", golden), ("struck", struck)):
        wrong += [f"{name}: {line}" for line in unsound(result, requests)]
    fired = struck.fired
    if not (fired.while_ready and fired.while_assessing and fired.requested_before_a_kill):
        wrong.append(f"struck: a fault never fired: {fired}")
    return golden, struck, wrong


def unsound(result: Result, requests: list[Request]) -> list[str]:
    """What is wrong with one run, whatever the other one did."""
    outcome, wrong = result.outcome, []
    if result.sequences != list(range(1, result.head + 1)):
        wrong.append(f"a subscriber saw {result.sequences}, the head is {result.head}")
    found = {id: {one["id"] for one in node["detections"]} for id, node in outcome.media.items()}
    if result.kept != found:
        wrong.append(f"store.kept.v1 says {result.kept}, the store keeps {found}")
    unjudged = [event["id"] for event in outcome.events.values() if event["status"] != "ASSESSED"]
    if unjudged or not outcome.events:
        wrong.append(f"{len(outcome.events)} events, not judged: {unjudged}")
    ends = {request.request_id: request.end for request in requests}
    if outcome.requests != ends:
        wrong.append(f"requests ended as {outcome.requests}, not as {ends}")
    if outcome.twice:
        wrong.append(f"assessed more than once: {outcome.twice}")
    if outcome.jobs:
        wrong.append(f"jobs left: {outcome.jobs}")
    if not result.fired.failed_attempts:
        wrong.append("the model never failed")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cameras", type=int, default=30)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--originals", choices=("keep", "take"), default="keep")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if options.kills < 2:
        parser.error("the second kill is the first one while Lares works: say --kills 2 or more")
    print(f"seed {options.seed}")
    drops = scenario(options.cameras, options.photos, options.seed)
    kills = Kills(options.kills, random.Random(options.seed))
    wanted = make_requests(drops, silent=3)
    with tempfile.TemporaryDirectory(prefix="lares-faults-") as folder:
        golden, struck, wrong = asyncio.run(compare(Path(folder), drops, wanted, kills, options.originals))
    for name, result in (("golden", golden), ("struck", struck)):
        print(
            f"{name}: {result.fired}, {result.seconds:.0f} s, "
            f"{len(result.outcome.media)} media, {len(result.outcome.events)} events, "
            f"{len(result.outcome.rejections)} rejections, {len(result.outcome.requests)} requests, "
            f"feed head {result.head}"
        )
    if wrong:
        sys.exit("\n".join(["NOT THE SAME:", *wrong]))
    print(
        "the same media, detections, events, labels, rejections and assessments, none of them twice; every "
        "request answered or given up; no job left; no gap in either feed"
    )


if __name__ == "__main__":
    main()

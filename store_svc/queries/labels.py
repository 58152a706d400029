"""The labels that detections can have."""

from collections.abc import Iterable

from sqlalchemy import func, select

from mesh.labels import COCO_LABELS, MAX_LENGTH, canonical, listed
from mesh.problems import Invalid
from store_svc.database import Database
from store_svc.database.statement import Statement
from store_svc.database.tables import detectors

_REPORTED = Statement(select(func.unnest(detectors.c.labels).label("label")).distinct())


async def find_labels(database: Database, names: Iterable[str]) -> list[str]:
    """Returns the canonical labels of `names`, each once.

    Raises Invalid (UNKNOWN_LABEL) for a label that is neither one of COCO's nor one that a detector which has
    reported can find.
    """
    labels = list(dict.fromkeys(map(canonical, names)))
    unknown = set(labels).difference(COCO_LABELS)
    if not unknown:
        return labels
    async with database.connection() as connection:
        reported = {canonical(row["label"]) for row in await _REPORTED.fetch(connection)}
    if unknown := unknown - reported:
        label = min(unknown)[:MAX_LENGTH]
        known = listed(sorted(reported.union(COCO_LABELS)))
        raise Invalid(f"{label!r} is not a known label; these are: {known}", "UNKNOWN_LABEL", label=label)
    return labels

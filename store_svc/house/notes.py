"""Notes about the home, for language models."""

from sqlalchemy import select, update

from lares.store.v1.house_pb2 import SiteNotes
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, parameter
from store_svc.database.tables import house
from store_svc.domain.house import require_one_line
from store_svc.house.house_row import lock_and_count
from store_svc.house.visits import require_cameras

_READ = Statement(select(house.c.site_notes))
_WRITE = Statement(update(house).values(site_notes=parameter("site_notes", house.c.site_notes)))


async def get_site_notes(database: Database) -> SiteNotes:
    async with database.connection() as connection:
        return SiteNotes.FromString(await _READ.fetch_value(connection))


async def set_site_notes(database: Database, notes: SiteNotes) -> None:
    """Replaces all notes. Raises Invalid (BAD_TEXT), NotFound (CAMERA_NOT_FOUND)."""
    for note in notes.notes:
        require_one_line(note.text, "text")

    async def work(connection: Connection) -> None:
        await lock_and_count(connection)
        await require_cameras(connection, filter(None, (note.camera_id for note in notes.notes)))
        await _WRITE.execute(connection, site_notes=notes.SerializeToString())

    await database.transaction(work)

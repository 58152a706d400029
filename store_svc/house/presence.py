"""Reports that people have come or gone. They are kept, with the key that made them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, insert, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on

from lares.store.v1.house_service_pb2 import ListPresenceResponse, ReportPresenceResponse
from mesh.problems import Conflict, Exhausted
from mesh.security import current_caller
from store_svc.database import Database
from store_svc.database.statement import Connection, FilteredStatement, Statement, equals, parameter
from store_svc.database.tables import people, presence_reports
from store_svc.domain.house import PRESENCE_LASTS, UNWELCOME
from store_svc.house.amendments import EvidenceAmendments
from store_svc.house.house_messages import presence_message
from store_svc.house.house_row import lock_house
from store_svc.house.people import find_person
from store_svc.queries.page_tokens import NUMBER, TIME, PageTokens
from store_svc.times import stamp

MAX_REPORTS, PERIOD = 30, timedelta(minutes=1)  # of one key

_report = presence_reports.c
_within = (
    _report.reported_at > parameter("after", _report.reported_at),
    _report.reported_at <= parameter("now", _report.reported_at),
)
_RECENT_OF_KEY = Statement(
    select(_report.reported_at)
    .where(*_within, equals(_report.key_id, "key_id"))
    .order_by(_report.reported_at.desc())
    .limit(MAX_REPORTS)
)
_ADD = Statement(
    insert(presence_reports)
    .inline()
    .values(
        {
            name: parameter(name, _report[name])
            for name in ("person_id", "present", "reported_at", "key_id", "reported_by")
        }
    )
)
_latest = (
    select(presence_reports)
    .join_from(presence_reports, people, people.c.id == _report.person_id)
    .where(*_within, people.c.relation != UNWELCOME)
    .ext(distinct_on(_report.person_id))
    .order_by(_report.person_id, _report.reported_at.desc(), _report.number.desc())
    .subquery()
)
_PRESENT = Statement(select(_latest).where(_latest.c.present).order_by(_latest.c.person_id))
_PAGE = FilteredStatement(
    lambda conditions: (
        select(presence_reports)
        .where(*conditions)
        .order_by(_report.reported_at.desc(), _report.number.desc())
        .limit(parameter("limit", Integer))
    ),
    {
        "at": tuple_(_report.reported_at, _report.number)
        < tuple_(parameter("at", _report.reported_at), parameter("number", _report.number))
    },
)


class PresenceReports:
    def __init__(
        self, database: Database, amendments: EvidenceAmendments, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._amendments = amendments
        self._clock = clock

    async def report(self, person_id: str, present: bool) -> ReportPresenceResponse:
        """Raises NotFound (PERSON_NOT_FOUND), Conflict (PERSON_UNWELCOME), Exhausted (TOO_MANY_REPORTS)."""
        caller = current_caller()

        async def work(connection: Connection) -> datetime:
            await lock_house(connection)
            now = self._clock()
            await _check_limit(connection, caller.id, now)
            person = await find_person(connection, person_id)
            if person["relation"] == UNWELCOME:
                raise Conflict("nobody expects this person to be present", "PERSON_UNWELCOME")
            await _ADD.execute(
                connection,
                person_id=person["id"],
                present=present,
                reported_at=now,
                key_id=caller.id,
                reported_by=caller.name,
            )
            await self._amendments.amend(connection, now)
            return now

        at = await self._database.transaction(work)
        self._amendments.notify()
        return ReportPresenceResponse(reported_at=stamp(at), lapses_at=stamp(at + PRESENCE_LASTS))

    async def reports(self, size: int, token: str) -> ListPresenceResponse:
        """Who is present now, and one page of the reports, newest first. Raises Invalid (BAD_PAGE_TOKEN)."""
        tokens, now = PageTokens("presence", {"reported_at": TIME, "number": NUMBER}), self._clock()
        values: dict[str, Any] = {"limit": size + 1}
        if key := tokens.after(token):
            values["at"], values["number"] = key
        async with self._database.connection() as connection:
            present = await _PRESENT.fetch(connection, after=now - PRESENCE_LASTS, now=now)
            rows = await _PAGE.fetch(connection, **values)
        page, page_tokens, next_page_token = tokens.cut(rows, size)
        return ListPresenceResponse(
            present=map(presence_message, present),
            reports=map(presence_message, page),
            page_tokens=page_tokens,
            next_page_token=next_page_token,
        )


async def _check_limit(connection: Connection, key_id: str, now: datetime) -> None:
    """Raises Exhausted (TOO_MANY_REPORTS) if the key has made MAX_REPORTS within PERIOD."""
    rows = await _RECENT_OF_KEY.fetch(connection, key_id=key_id, after=now - PERIOD, now=now)
    if len(rows) < MAX_REPORTS:
        return
    wait = rows[-1]["reported_at"] + PERIOD - now
    raise Exhausted(
        f"a key may make {MAX_REPORTS} reports a minute",
        "TOO_MANY_REPORTS",
        retry_after_seconds=f"{max(wait.total_seconds(), 0):.3f}",
    )

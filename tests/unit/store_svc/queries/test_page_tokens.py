"""Page tokens decode to their sort key, and any other text is refused."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Invalid
from store_svc.queries.page_tokens import ID, SCORE, SLUG, TIME, PageTokens
from store_svc.times import EPOCH

NEWEST = {"started_at": TIME, "id": ID}
EVENTS = PageTokens("events", NEWEST)

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
slugs = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


def a_token(pages: PageTokens = EVENTS) -> str:
    return pages.token({"started_at": EPOCH, "id": uuid4()})


@given(moments, st.floats(0, 1), st.uuids())
def test_a_token_decodes_to_its_key(at: datetime, score: float, id: UUID) -> None:
    pages = PageTokens("detections", {"captured_at": TIME, "score": SCORE, "id": ID})
    assert pages.after(pages.token({"id": id, "score": score, "captured_at": at})) == (at, score, id)


@given(slugs)
def test_a_slug_of_any_length_is_kept(slug: str) -> None:
    pages = PageTokens("cameras", {"id": SLUG})
    assert pages.after(pages.token({"id": slug})) == (slug,)


def test_microseconds_are_kept() -> None:
    at = EPOCH + timedelta(days=20_000, microseconds=1)
    assert EVENTS.after(EVENTS.token({"started_at": at, "id": UUID(int=0)})) == (at, UUID(int=0))


def test_an_empty_token_is_the_first_page() -> None:
    assert EVENTS.after("") is None


def test_a_token_needs_no_escape_in_a_url() -> None:
    assert all(a_token().replace("-", "").replace("_", "").isalnum() for _ in range(50))


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_only_a_page_that_is_not_the_last_has_a_next_page(rows: int) -> None:
    read = [{"started_at": EPOCH, "id": uuid4()} for _ in range(rows)]
    page, tokens, following = EVENTS.cut(read, 2)
    assert page == read[:2]
    assert tokens == [EVENTS.token(row) for row in read[:2]]
    assert following == (tokens[1] if rows == 3 else "")


@pytest.mark.parametrize(
    "other",
    [
        PageTokens("media", NEWEST, scope="front"),
        PageTokens("events", NEWEST, scope="back"),
        PageTokens("events", NEWEST),
        PageTokens("events", {"started_at": TIME, "score": SCORE, "id": ID}, scope="front"),
    ],
)
def test_a_token_of_another_listing_is_refused(other: PageTokens) -> None:
    with pytest.raises(Invalid) as refused:
        other.after(a_token(PageTokens("events", NEWEST, scope="front")))
    assert refused.value.reason == "BAD_PAGE_TOKEN"


@given(st.text(min_size=1, max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        EVENTS.after(text)
    assert refused.value.reason == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63)])
def test_a_forged_time_beyond_the_calendar_is_refused(micros: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(a_token() + "=="))
    raw[8:16] = micros.to_bytes(8, "big", signed=True)
    with pytest.raises(Invalid) as refused:
        EVENTS.after(base64.urlsafe_b64encode(bytes(raw)).decode())
    assert refused.value.reason == "BAD_PAGE_TOKEN"

"""The certificates of this process, as its listeners and channels use them now."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client.core import Metric

from mesh.problems import Invalid, Problem, Unavailable
from mesh.telemetry.metrics import Instrument
from mesh.tls.certificates import Certificates
from mesh.tls.files import Contents

log = structlog.get_logger(__name__)

EXPIRY = Instrument(
    "lares_tls_certificate_expiry_timestamp_seconds",
    "gauge",
    "When a certificate expires: that for `clients`, that for `siblings`, their `ca`. Absent without TLS.",
    ("certificate",),
)
UNUSED = Instrument(
    "lares_tls_files_unused",
    "gauge",
    "1 while what the files of the certificates hold cannot be used, and the last good one still is.",
)
INSTRUMENTS = (EXPIRY, UNUSED)

# New content is used once it was read twice, this long apart.
READ_SECONDS = 2.0
RENEWAL_SECONDS = 600.0
WARNED = timedelta(days=14)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Tls:
    """Everything that serves or uses TLS looks at `now` for each new connection, so that is all that a
    renewal has to change. Connections that are open stay as they are."""

    def __init__(
        self,
        read: Callable[[], Contents],
        check: Callable[[Contents], Certificates],
        renew: Callable[[], object] | None = None,
        clock: Clock = _now,
    ) -> None:
        """`read` returns what the files hold; `check` raises Invalid if that cannot be used, and so does
        this. `renew` renews the files if they are of Lares's making. All are called again and again, in a
        thread."""
        self._check_contents, self._renew, self._clock = check, renew, clock
        self._read_files = read
        self._used = read()
        self.now: Certificates = check(self._used)
        # Why the files, as they are now, are not used, and why they are not renewed.
        self._problems = {"files": "", "renewal": ""}
        self._last: Contents = self._used
        self._refused: Contents | None = None

    async def keep_fresh(self) -> None:
        """Follows the files until it is cancelled."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(READ_SECONDS)
            if self._renew and time.monotonic() - renewed >= RENEWAL_SECONDS:
                renewed = time.monotonic()
                await self._attempt(self._renew)
            await self.refresh()

    async def refresh(self) -> None:
        """Uses what the files hold if that is new, unchanged since the last look, and complete. Otherwise
        everything stays as it is."""
        try:
            contents = await asyncio.to_thread(self._read_files)
        except Invalid as problem:
            self._note("files", problem.message)
            return
        settled, self._last = contents == self._last, contents
        if contents == self._used:
            self._note("files", "")
        elif settled and contents != self._refused:
            try:
                self.now = await asyncio.to_thread(self._check_contents, contents)
            except Invalid as problem:
                self._refused = contents
                self._note("files", problem.message)
                return
            self._used, self._refused = contents, None
            self._note("files", "")
            expiries = {name: str(at) for name, at in self.now.expiries().items()}
            log.info("certificates renewed", expiries=expiries)

    def warnings(self) -> dict[str, str]:
        """What is wrong with a certificate, or soon will be, by its name; `files` stands for files that are
        not used, and `renewal` for a renewal that failed."""
        now = self._clock()
        found = {
            name: "has expired" if at <= now else f"expires in {(at - now).days} days"
            for name, at in self.now.expiries().items()
            if at - now <= WARNED
        }
        return found | {name: why for name, why in self._problems.items() if why}

    async def sample(self) -> list[Metric]:
        expiries = {(name,): at.timestamp() for name, at in self.now.expiries().items()}
        return [EXPIRY.family(expiries), UNUSED.family({(): bool(self._problems["files"])})]

    def report(self) -> dict[str, object]:
        """When each certificate expires, for everybody: whoever connects sees that."""
        return {"certificates": {name: at.isoformat() for name, at in self.now.expiries().items()}}

    async def check(self) -> None:
        """The readiness check of who serves clients. Raises Unavailable once their certificate has expired:
        clients refuse it."""
        expired = self.now.clients.expires_at
        if expired <= self._clock():
            raise Unavailable(f"the certificate for clients expired at {expired}", "CERTIFICATE_EXPIRED")

    async def _attempt(self, renew: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(renew)
        except (Problem, OSError) as error:
            self._note("renewal", f"failed: {error}")
        else:
            self._note("renewal", "")

    def _note(self, name: str, why: str) -> None:
        """Logs each change once."""
        if why and why != self._problems[name]:
            log.error("certificates stay as they were", what=name, why=why)
        self._problems[name] = why

"""Finds the time that cameras and recorders write into the names of their files and folders.

Only names that state a year, a month, a day, hours and minutes, in this order, are read. Numbers of days and
months in any other order are ambiguous, and so is a number of seconds since 1970, which may be a serial one.
Whether the time is plausible is up to `capture_time`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

# Longer paths do not come from cameras.
MAX_CHARACTERS = 1024
MAX_NAME_CHARACTERS = 255

_YEAR, _MONTH, _DAY = r"(?P<year>20\d\d)", r"(?P<month>0[1-9]|1[0-2])", r"(?P<day>0[1-9]|[12]\d|3[01])"
_HOUR, _MINUTE, _SECOND = r"(?P<hour>[01]\d|2[0-3])", r"(?P<minute>[0-5]\d)", r"(?P<second>[0-5]\d)"
_MILLISECONDS = r"(?:\.?(?P<milliseconds>\d{3}))?"
_DATE = rf"{_YEAR}[-_.]?{_MONTH}[-_.]?{_DAY}"
# `12_03_04`, `12h03m04s`; the letters are those of the units.
_TIME = rf"{_HOUR}[-_.:hH]?{_MINUTE}[-_.:mM]?{_SECOND}[sS]?{_MILLISECONDS}(?!\d)"
_SEPARATED_TIME = rf"(?<!\d\.){_HOUR}(?P<mark>[-_.:]){_MINUTE}(?P=mark){_SECOND}(?!\.?\d)"
_HALF_OF_DAY = r"(?:[ _-]?(?P<half>[AaPp])[Mm](?![A-Za-z0-9]))?"
# Without a colon `-0500` may be a serial number.
_ZONE = r"(?P<offset>[+-](?:0\d|1[0-4]):[0-5]\d|\+(?:0\d|1[0-4])[0-5]\d)(?!\d)"
_OFFSET = rf"(?:{_ZONE}|(?P<utc>[ _]?UTC|Z)(?![A-Za-z0-9+]))?"

# `20240501_120304`, `2024-05-01 at 12.03.04`, `20240501120304567`, `2024_0501_120304`.
IN_NAME = re.compile(rf"(?<!\d){_DATE}(?:[-_ .,@]*T?[-_ .,@]*| at ){_TIME}{_HALF_OF_DAY}{_OFFSET}")
UNITS = ("year", "month", "day", "hour", "minute", "second", "milliseconds")
# Pixel phones write UTC, and do not say so.
UTC_NAMES = ("PXL_",)

# The last folders of a path, and the name in them.
IN_FOLDERS = (
    # Dahua, motionEye: `2024-05-01/001/dav/12/12.03.04-12.04.04[M].mp4`, `2024/05/01/12-03-04.jpg`.
    re.compile(
        rf"(?:^|/){_YEAR}[-_./]?{_MONTH}[-_./]?{_DAY}(?:[AP]M)?/(?:[^/]+/){{0,4}}(?:[^/]*?[^/\d])??{_SEPARATED_TIME}[^/]*$"
    ),
    # Dahua: `2024-05-01/001/jpg/12/03/04[M][0@0][0].jpg`.
    re.compile(
        rf"(?:^|/){_YEAR}[-_./]?{_MONTH}[-_./]?{_DAY}/(?:[^/]+/){{0,3}}{_HOUR}/{_MINUTE}/{_SECOND}(?!\d)[^/]*$"
    ),
    # Xiaomi and Yi: `2024Y05M01D12H/E03M04S60.mp4`, `2024050112/03M04S_1714557784.mp4`.
    re.compile(
        rf"(?:^|/){_YEAR}Y?{_MONTH}M?{_DAY}D?{_HOUR}H?/(?:[^/]*[^/\d])?{_MINUTE}M{_SECOND}S(?!\w*/)[^/]*$"
    ),
    # Wyze, a file for each minute: `20240501/12/03.mp4`.
    re.compile(rf"(?:^|/){_YEAR}[-_./]?{_MONTH}[-_./]?{_DAY}/{_HOUR}/{_MINUTE}\.[A-Za-z][A-Za-z0-9]{{1,3}}$"),
)


@dataclass(frozen=True, slots=True)
class NamedTime:
    """`local` is without a time zone; `offset` is its offset from UTC, None if the name does not state it."""

    local: datetime
    offset: timedelta | None


def time_in_name(path: str) -> NamedTime | None:
    """The first time in the file's name, or the one that its folders and its name give together. `path` has
    no folder that people have named, such as that of a camera. None if there is none."""
    if len(path) > MAX_CHARACTERS:
        return None
    name = path.rpartition("/")[2]
    if len(name) > MAX_NAME_CHARACTERS:
        return None
    found = IN_NAME.search(name)
    while found is not None:
        if (time := _named_time(found.groupdict(), name)) is not None:
            return time
        found = IN_NAME.search(name, found.start() + 1)
    for pattern in IN_FOLDERS:
        in_path = pattern.search(path)
        if in_path is not None and (time := _named_time(in_path.groupdict(), name)) is not None:
            return time
    return None


def _named_time(parts: Mapping[str, str | None], name: str) -> NamedTime | None:
    year, month, day, hour, minute, second, milliseconds = (int(parts.get(unit) or 0) for unit in UNITS)
    half = (parts.get("half") or "").upper()
    if half and 1 <= hour <= 12:
        hour = hour % 12 + (12 if half == "P" else 0)
    try:
        local = datetime(year, month, day, hour, minute, second, milliseconds * 1000)
    except ValueError:
        return None  # the 31st of a shorter month
    return NamedTime(local, _offset(parts, name))


def _offset(parts: Mapping[str, str | None], name: str) -> timedelta | None:
    if parts.get("utc") or name.startswith(UTC_NAMES):
        return timedelta(0)
    text = parts.get("offset")
    if not text:
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return -offset if text[0] == "-" else offset

"""Which time zones a setting or a camera may name."""

from zoneinfo import available_timezones

# In the database, but no zones: that of the host, another one on each machine, and a placeholder.
NO_ZONES = frozenset(("localtime", "Factory"))


def is_time_zone(name: str) -> bool:
    """Whether it is the IANA name of a time zone. Reads the database's folders, which takes milliseconds."""
    return name not in NO_ZONES and name in available_timezones()

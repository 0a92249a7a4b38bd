"""In which zone times are shown: --timezone, then LOCKSTEP_TIMEZONE, TZ, [display] timezone, else the machine's own."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from lockstep.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from lockstep.config import Settings

VARIABLE = "LOCKSTEP_TIMEZONE"
LOCAL = "local"  # the machine's own


def asked_zone(given: str | None) -> tuple[bool, tzinfo | None]:
    """Return whether this call says which zone, and the zone; None: the machine's own. Raises UsageError."""
    for name, where in ((given, "--timezone"), (os.environ.get(VARIABLE), VARIABLE)):
        if name:
            try:
                return True, zone(name)
            except ValueError as error:
                raise UsageError(f"{where}: {error}", hint=_HINT) from None
    if not os.environ.get("TZ"):
        return False, None
    try:  # the C library takes more than names; what this does not know is its own affair
        return True, zone(os.environ["TZ"].removeprefix(":"))
    except ValueError:
        return True, None


def configured_zone(settings: Settings) -> tuple[bool, tzinfo | None]:
    """Return the same of lockstep.toml. Raises ConfigError."""
    if settings.display.timezone is None:
        return False, None
    try:
        return True, zone(settings.display.timezone)
    except ValueError as error:
        raise ConfigError(f"display.timezone: {error}", where=settings.where("display.timezone"), hint=_HINT) from None


_HINT = "a name such as Europe/Berlin or America/New_York; UTC; or local, the machine's own"


def zone(name: str) -> tzinfo | None:
    """Return the zone of that name; None: the machine's own. Raises ValueError that says what was meant."""
    if name.lower() == LOCAL:
        return None
    if name.upper() in ("UTC", "Z"):
        return UTC
    import zoneinfo  # late: most calls need none

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        from lockstep.core.nearest import meant

        known = zoneinfo.available_timezones()
        by_city = {one.rpartition("/")[2]: one for one in sorted(known, reverse=True)}
        close = meant(name, known) or meant(name.replace(" ", "_"), by_city)
        for city, full in by_city.items():
            close = close.replace(f"'{city}'", f"'{full}'")
        raise ValueError(f"there is no time zone '{name}'{close}") from None

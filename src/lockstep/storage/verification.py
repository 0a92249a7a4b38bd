"""What a backup was put to, and whether it stood: a small document beside its manifest for each time.

It must not know where it is stored, nor how a backup is verified. It holds no secret and no row of anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

FORMAT = 1


class Level(Enum):
    """How much was tried, weakest first."""

    DIGESTS = "digests"  # every stored byte is the one that was stored
    ARCHIVE = "archive"  # pg_restore read the archives whole
    RESTORED = "restored"  # restored into a throw-away server, and compared

    @property
    def strength(self) -> int:
        """From 1; higher includes all that lower ones prove."""
        return list(Level).index(self) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One time that a backup was verified."""

    format: int = FORMAT
    level: Level
    ok: bool
    at: Annotated[datetime, Meta(tz=True)]  # when it ended, by the clock of the machine that did it
    duration_ms: Annotated[int, Meta(ge=0)]
    run_id: str
    server_version: str | None = None  # of the throw-away server; None where there was none
    findings: tuple[str, ...] = ()  # what was wrong, in words
    tool_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What all verifications of a backup come to."""

    level: Level | None  # the strongest that holds; None: never verified, or it failed
    at: datetime | None  # when that was shown last, or when it failed
    failed: bool  # known to be damaged


def standing(verifications: Iterable[Verification]) -> Standing:
    """Return where a backup stands. A failure holds until the same level, or a stronger one, is passed later."""
    passed: dict[Level, datetime] = {}
    failed: Verification | None = None
    for one in sorted(verifications, key=lambda one: (one.at, one.ok)):
        if not one.ok:
            failed, passed = one, {}
        elif failed is None or one.level.strength >= failed.level.strength:
            failed = None
            passed[one.level] = one.at
    if failed is not None:
        return Standing(level=None, at=failed.at, failed=True)
    if not passed:
        return Standing(level=None, at=None, failed=False)
    level = max(passed, key=lambda level: level.strength)
    return Standing(level=level, at=passed[level], failed=False)


def file_name(verification: Verification, again: int = 0) -> str:
    """Return the name of its document. `again` tells several of one second apart."""
    at = verification.at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"verified-{at}-{verification.level.value}{f'-{again}' if again else ''}.json"


def is_file_name(name: str) -> bool:
    """Tell whether a name in a backup's folder is that of a verification."""
    return name.startswith("verified-") and name.endswith(".json")


def encode(verification: Verification) -> bytes:
    """Return the document."""
    return msgspec.json.format(msgspec.json.encode(verification), indent=2) + b"\n"


def decode(document: bytes) -> Verification:
    """Read a document; unknown fields are passed over. Raises ValueError when it is damaged or of a later format."""
    try:
        found = _VERIFICATIONS.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a verification: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"format {found.format} is not known to this version of Lockstep (it knows {FORMAT})")
    return found


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_VERIFICATIONS = msgspec.json.Decoder(Verification)

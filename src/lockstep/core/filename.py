"""What a file's name says: `NNN-description.sql`, `.down.sql`, `.verify.sql`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

MAX_VERSION = 2**63 - 1  # the ledger's bigint


class Part(Enum):
    """What one file of a migration is for."""

    UP = "up"  # applies it
    DOWN = "down"  # takes it back
    VERIFY = "verify"  # queries that must hold after it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """A well-formed file name, taken apart."""

    version: int  # the sortable key
    digits: str  # as written, with its padding
    title: str  # what follows the number
    part: Part


_FORM = re.compile(r"(?P<digits>[0-9]+)[-_](?P<title>[^/]+?)(?:\.(?P<part>down|verify|up))?\.sql", re.IGNORECASE)


def parse_file_name(name: str) -> FileName | None:
    """Return the parts of a versioned file's name, or None when it is none of ours (see `why_not`)."""
    key = version_and_part(name)
    match = _FORM.fullmatch(name)
    if key is None or match is None:
        return None
    return FileName(version=key[0], digits=match["digits"], title=match["title"], part=key[1])


def version_and_part(name: str) -> tuple[int, Part] | None:
    """Return the two that place a file among thousands, or None as `parse_file_name` does."""
    match = _FORM.fullmatch(name)
    if match is None or not name.isprintable():
        return None
    digits, _, part = match.groups()
    version = int(digits)
    if version > MAX_VERSION:
        return None
    return version, Part(part.lower()) if part else Part.UP


def unprintable(name: str) -> str | None:
    """Say which character of a name keeps people from seeing what it is; None: there is none."""
    hidden = next((char for char in name if not char.isprintable()), None)
    if hidden is None:
        return None
    if "\udc80" <= hidden <= "\udcff":  # how Python writes a byte that is no text
        return f"byte 0x{ord(hidden) - 0xDC00:02x} of the name is not UTF-8"
    return f"the name holds a character that cannot be seen (U+{ord(hidden):04X})"


def why_not(name: str) -> str:
    """Say what is wrong with a `.sql` file name that does not parse, and what it should look like."""
    if (hidden := unprintable(name)) is not None:
        return hidden
    match = re.match(r"([0-9]+)(.*)\.sql$", name, re.IGNORECASE | re.DOTALL)
    if match is None:
        return "the name must start with a number: 007-what-it-does.sql"
    if int(match[1]) > MAX_VERSION:
        return f"the number is larger than {MAX_VERSION}"
    return f"a '-' or '_' and a description must follow the number: {match[1]}-what-it-does.sql"

"""The table of contents of an archive, as `pg_restore --list` prints it: what is in it, and a part of it chosen.

It knows the form of the lines and no more of what they mean than needed to choose among them. A chosen part keeps the
archive's order: one that comes as a stream cannot be read in any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: Kinds of several words that are told apart here, longest first; of all others the first word is the kind.
_KINDS = (
    "MATERIALIZED VIEW DATA", "PUBLICATION TABLES IN SCHEMA", "PUBLICATION TABLE", "MATERIALIZED VIEW",
    "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "SEQUENCE OWNED BY", "SUBSCRIPTION TABLE", "SEQUENCE SET", "USER MAPPING",
    "TABLE ATTACH", "TABLE DATA", "CHECK CONSTRAINT", "FK CONSTRAINT", "EVENT TRIGGER", "INDEX ATTACH", "ROW SECURITY",
    "DEFAULT ACL", "SECURITY LABEL", "STATISTICS DATA", "BLOB COMMENTS", "BLOB METADATA",
)  # fmt: skip
_LINE = re.compile(r"(\d+); (\d+) (\d+) (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an archive."""

    line: str  # as pg_restore prints it and takes it back
    number: int  # in the archive
    oid: int  # of the object at the source; of rows that of their table
    kind: str  # TABLE, TABLE DATA, USER MAPPING, …
    rest: str  # schema (or -), name and owner, with spaces between them: none of them is quoted

    def is_of(self, schema: str, name: str) -> bool:
        """Whether it is the entry of, or of the rows of, a table. A line feed in a name is a space here."""
        return f"{self.rest} ".startswith(f"{schema} {name} ".replace("\n", " ").replace("\r", " "))

    @property
    def shown(self) -> str:
        """For people, without the owner: `TABLE public.docs`."""
        schema, _, name = self.rest.rsplit(" ", 1)[0].partition(" ")
        return f"{self.kind} {name if schema == '-' else f'{schema}.{name}'}"


def read_entries(text: str) -> tuple[Entry, ...]:
    """Return the entries of a list, in its order."""
    return tuple(entry for line in text.splitlines() if (entry := read_entry(line)) is not None)


def read_entry(line: str) -> Entry | None:
    """Return the entry that a line is; None for a comment."""
    match = _LINE.fullmatch(line.strip("\r\n"))
    if match is None:
        return None
    kind = next((kind for kind in _KINDS if match[4].startswith(f"{kind} ")), match[4].partition(" ")[0])
    return Entry(
        line=line, number=int(match[1]), oid=int(match[3]), kind=kind, rest=match[4].removeprefix(kind).lstrip(" ")
    )


def as_list(entries: Iterable[Entry]) -> str:
    """Return a list that pg_restore takes."""
    return "".join(f"{entry.line}\n" for entry in entries)

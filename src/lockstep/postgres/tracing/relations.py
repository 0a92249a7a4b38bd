"""The relations that the plan found, and those that it made: named as they were, whatever became of them since."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lockstep.postgres.connection import Session

_KINDS = {
    "r": "table", "p": "table", "i": "index", "I": "index", "S": "sequence", "v": "view", "m": "materialized view",
    "f": "foreign table", "t": "TOAST table", "c": "type",
}  # fmt: skip
#: Tables before what belongs to them.
ORDER = {kind: rank for rank, kind in enumerate(dict.fromkeys(("table", "partition", *_KINDS.values())))}
#: What has rows of its own.
ROWS = frozenset({"table", "partition", "materialized view"})


@cache
def query(name: str) -> str:
    """Return a named query of this package."""
    return Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")


def kind_of(relkind: str, partition: bool) -> str:
    """Return the kind of a relation in words."""
    return "partition" if partition and relkind in "rp" else _KINDS.get(relkind, relkind)


@dataclass(slots=True, kw_only=True)
class Relation:
    """One relation."""

    name: str  # with its schema, quoted where it must be
    kind: str
    existed: bool  # before the plan
    filenode: int  # of its file as of the last transaction that committed; 0: it has none
    table: int | None = None  # OID, of an index


@dataclass(slots=True, kw_only=True)
class Relations:
    """By OID. TOAST tables and their indexes count as the table that they belong to."""

    known: dict[int, Relation] = field(default_factory=dict)
    folded: dict[int, int] = field(default_factory=dict)  # OID of a TOAST table, or of its index, to its table's
    indexes: dict[str, int] = field(default_factory=dict)  # by name, those that existed
    kinds: dict[str, str] = field(default_factory=dict)  # of all that existed, by name

    @classmethod
    def read(cls, session: Session) -> Relations:
        """Read them from a session that is idle. Raises psycopg.Error."""
        found = cls()
        for oid, relkind, partition, name, filenode, table, owner in session.connection.execute(
            query("relations").encode()
        ):
            if owner is not None:
                found.folded[oid] = owner
                continue
            kind = kind_of(relkind, partition)
            found.known[oid] = Relation(name=name, kind=kind, existed=True, filenode=filenode, table=table)
            found.kinds[name] = kind
            if kind == "index":
                found.indexes[name] = oid
        return found

    def predecessor(self, name: str) -> int | None:
        """The index of before that one of the same name took the place of."""
        return self.indexes.get(name)

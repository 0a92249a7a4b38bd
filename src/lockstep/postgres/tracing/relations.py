"""The relations that the plan found, and those that it made: named as they were, whatever became of them since."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lockstep.core.locking.lock_modes import Mode
from lockstep.postgres.connection import Session

_KINDS = {
    "r": "table", "p": "table", "i": "index", "I": "index", "S": "sequence", "v": "view", "m": "materialized view",
    "f": "foreign table", "t": "TOAST table", "c": "type",
}  # fmt: skip
#: Tables before what belongs to them.
ORDER = {
    kind: rank
    for rank, kind in enumerate(dict.fromkeys(("table", "partition", "materialized view", "view", *_KINDS.values())))
}
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
    table: int | None = None  # OID, of an index or a TOAST table


@dataclass(slots=True, kw_only=True)
class Relations:
    """By OID. A TOAST table and its index count as one, by the table's OID."""

    known: dict[int, Relation] = field(default_factory=dict)
    folded: dict[int, int] = field(default_factory=dict)  # OID of a TOAST table's index, to the TOAST table's
    indexes: dict[str, int] = field(default_factory=dict)  # by name, those that existed
    kinds: dict[str, str] = field(default_factory=dict)  # of all that existed, by name

    @classmethod
    def read(cls, session: Session) -> Relations:
        """Read them from a session that is idle. Raises psycopg.Error."""
        found = cls()
        toast: dict[int, int] = {}
        for oid, relkind, partition, name, filenode, table, owner in session.connection.execute(
            query("relations").encode()
        ):
            if owner is not None:
                if relkind == "t":
                    toast[oid] = owner
                elif table is not None:
                    found.folded[oid] = table
                continue
            kind = kind_of(relkind, partition)
            found.known[oid] = Relation(name=name, kind=kind, existed=True, filenode=filenode, table=table)
            found.kinds[name] = kind
            if kind == "index":
                found.indexes[name] = oid
        for oid, owner in toast.items():
            name = f"{found.known[owner].name} (TOAST)"
            found.known[oid] = Relation(name=name, kind="TOAST table", existed=True, filenode=0, table=owner)
            found.kinds[name] = "TOAST table"
        return found

    def hidden(self, oid: int, mode: Mode, owner: Mode | None) -> bool:
        """Whether a lock goes without saying: on a TOAST table whose table is locked as strongly."""
        known = self.known.get(oid)
        return known is not None and known.kind == "TOAST table" and owner is not None and owner.rank >= mode.rank

    def predecessor(self, name: str) -> int | None:
        """The index of before that one of the same name took the place of."""
        return self.indexes.get(name)

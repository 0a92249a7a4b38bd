"""What a backup leaves out, and that it leaves out nothing else: judged before pg_dump starts.

It knows the rule; the catalog is asked by postgres.scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.core.managed import is_managed
from lockstep.errors import BackupFailed
from lockstep.postgres.scope import Unreadable, foreign_owners, unreadable
from lockstep.postgres.snapshot import Snapshot

NAMED = 5  # of many unreadable things in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The schemas that a dump does not hold."""

    schemas: tuple[str, ...]  # sorted
    reasons: tuple[str, ...]  # in words, of those that nobody asked to leave out


def left_out(snapshot: Snapshot, *, exclude_schemas: Sequence[str], own_schemas: Sequence[str]) -> LeftOut:
    """Return what the dump leaves out: what was asked for, and managed schemas that the role may not read.

    A schema is managed when its name and its owner are known ones of a database service, the role is no member of that
    owner, and it is none of `own_schemas`. Read-only. Raises BackupFailed for anything else that the role cannot read,
    with the grants that mend it.
    """
    asked = {name for name in snapshot.schemas if name in exclude_schemas}
    found = unreadable(snapshot, exclude_schemas=sorted(asked))
    owners = foreign_owners(snapshot) if found else {}
    managed: dict[str, Unreadable] = {}  # schema -> the first thing in it
    for item in found:
        schema = item.schema
        if schema is not None and schema not in own_schemas and is_managed(schema, owners.get(schema, "")):
            managed.setdefault(schema, item)
    _refuse(snapshot, [item for item in found if item.schema not in managed])
    return LeftOut(
        schemas=tuple(sorted(asked | managed.keys())),
        reasons=tuple(
            f"schema {schema}, which {owners[schema]} keeps for the database service ({item.name}: {item.reason})"
            for schema, item in managed.items()
        ),
    )


def _refuse(snapshot: Snapshot, found: Sequence[Unreadable]) -> None:
    if not found:
        return
    named = "".join(f"\n  {item.name}: {item.reason}" for item in found[:NAMED])
    more = f"\n  and {len(found) - NAMED} more" if len(found) > NAMED else ""
    grants = list(dict.fromkeys(item.grant for item in found))
    shown = "; ".join(grants[:NAMED]) + (f"; and {len(grants) - NAMED} more" if len(grants) > NAMED else "")
    raise BackupFailed(
        f"role {snapshot.role} cannot read all of database {snapshot.database}, so no backup was begun:{named}{more}",
        target=snapshot.target,
        hint=f'{shown}. GRANT pg_read_all_data TO "{snapshot.role}" gives SELECT and USAGE on all tables and sequences '
        "at once; [backup] exclude_schemas leaves a schema out",
    )

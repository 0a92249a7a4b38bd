"""Whose changes a schema has after a run that was cut off before it could record them: the run's own, or others'.

Read-only. In doubt they are others': drift that a person looks at.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.config import Environment, Settings
from lockstep.core.changes import Change
from lockstep.core.counting import counted
from lockstep.core.fingerprint import Fingerprint, SchemaObject, portable
from lockstep.errors import LockstepError
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.dating import date_changes, read_touched
from lockstep.postgres.states import read_intended, read_newest
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id


def not_its_own(
    settings: Settings, environment: Environment, session: Session, found: Sequence[Change]
) -> tuple[tuple[Change, ...], list[str]]:
    """Return what others changed, and what to tell of the run's own changes.

    Its own is what was written by the very transaction of an event of the audit log, or of a unit of a file outside of
    a transaction; an index that such a unit made or dropped CONCURRENTLY; and what an environment before this one, which
    has the same migrations, has as well. All else stays drift.
    """
    dated = date_changes(session, (c.after.xid for c in found if c.after is not None and c.after.xid is not None))
    rest = [
        c
        for c in found
        if c.after is None or c.after.xid is None or (when := dated.get(c.after.xid)) is None or when.by is None
    ]
    if any(c.key[0] == "index" for c in rest):
        touched = read_touched(session)
        rest = [c for c in rest if c.key[0] != "index" or not touched.intersection(_as_touched(c))]
    for before in environment.table.after if rest else ():
        there = _recorded_there(settings, before)
        if there is not None:
            rest = [
                c
                for c in rest
                if not _same(c.after, there.objects.get(c.key), there.major == session.facts.version // 10000)
            ]
    own = len(found) - len(rest)
    word = counted(own, "object that it changed is", "objects that it changed are")
    notice = f"the run before was cut off before it could record the schema: {word} recorded now"
    return tuple(rest), [notice] if own else []


def _as_touched(index: Change) -> set[tuple[str, str, str]]:
    _, schema, _, name = index.key
    what = "gone" if index.after is None else "made"
    return {(what, schema, name), (what, "", name)}


def _same(one: SchemaObject | None, other: SchemaObject | None, same_major: bool) -> bool:
    if one is None or other is None:
        return one is other
    return one[:6] == other[:6] if same_major else portable(one) == portable(other)


def _recorded_there(settings: Settings, environment: str) -> Fingerprint | None:
    try:
        target = target_of(settings, settings.environment(environment), with_settings=False)
        session = open_session(target, run_id=new_run_id(), read_only=True)
    except LockstepError:
        return None
    try:
        state = read_newest(session)
        return None if state is None else read_intended(session, state)
    except LockstepError:
        return None
    finally:
        session.close()

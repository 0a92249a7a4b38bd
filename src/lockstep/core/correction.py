"""Which correction of the ledger fits which state of a migration; pure. The words are those of `lockstep repair`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from lockstep.core.comparison import BEGUN, Row, State
from lockstep.core.ledger import Progress
from lockstep.core.migration import SqlFile, label
from lockstep.core.units import done_digest
from lockstep.errors import UsageError


class Verb(Enum):
    """What a person says is true."""

    REFRESH = "refresh"  # nothing: what is safe without a word
    ACCEPT = "accept"  # the file on disk is what the database has
    FORGET = "forget"  # the entry is not true
    RECORD = "record"  # all of the migration is in the database
    STATEMENT_DONE = "statement-done"  # the statement that was begun took effect
    STATEMENT_UNDONE = "statement-undone"  # it did not


#: States that each verb can settle.
FITS: Mapping[Verb, frozenset[State]] = {
    Verb.REFRESH: frozenset({State.REFORMATTED, State.UNVERIFIED}),
    Verb.ACCEPT: frozenset({State.CHANGED, State.REFORMATTED, State.UNVERIFIED, State.TO_REAPPLY}),
    Verb.FORGET: frozenset(State) - {State.PENDING, State.HELD, State.OUT_OF_ORDER},
    Verb.RECORD: frozenset({State.PENDING, State.OUT_OF_ORDER, State.HELD, *BEGUN}),
    Verb.STATEMENT_DONE: BEGUN,
    Verb.STATEMENT_UNDONE: BEGUN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One correction to make."""

    row: Row
    verb: Verb
    what: str  # for a person
    progress: Progress | None = None  # of an entry that stays begun
    statements_done: int = 0  # likewise


def changes(
    rows: Sequence[Row], asked: Sequence[tuple[str, Verb]], downs: Mapping[int, SqlFile], target: str
) -> tuple[Change, ...]:
    """Return the corrections that were asked for by name, and those that are safe without.

    `downs` are the down scripts that would run, by version. Raises UsageError for what does not fit; nothing is done then.
    """
    chosen: dict[str, Change] = {}
    for name, verb in asked:
        row = _find(rows, name)
        if row is None:
            raise UsageError(f"{target}: there is no {name}", hint="lockstep status shows what there is")
        if row.state not in FITS[verb]:
            raise UsageError(
                f"{target}: {row.name} is {row.state.value}: --{verb.value} is for what is "
                + " or ".join(sorted(state.value for state in FITS[verb])),
                hint="lockstep status shows what is what",
            )
        if row.name in chosen:
            raise UsageError(f"{target}: {row.name} is named twice")
        chosen[row.name] = _change(row, verb, downs, target)
    safe = [
        Change(row=row, verb=Verb.REFRESH, what=f"{row.state.value}: the file on disk is recorded now")
        for row in rows
        if row.state in FITS[Verb.REFRESH] and row.version is not None and row.name not in chosen
    ]
    return (*chosen.values(), *safe)


def _find(rows: Sequence[Row], name: str) -> Row | None:
    for row in rows:
        if name in {row.name, label(row.name), str(row.version)} or (
            row.version is not None and name.isdigit() and int(name) == row.version
        ):
            return row
    return None


def _change(row: Row, verb: Verb, downs: Mapping[int, SqlFile], target: str) -> Change:
    if verb in {Verb.ACCEPT, Verb.RECORD} and row.migration is None:
        raise UsageError(
            f"{target}: {row.name} has no file whose checksum could be recorded",
            hint=f"bring the file back, or --forget {row.version or row.name} removes its entry",
        )
    if verb is Verb.ACCEPT:
        return Change(row=row, verb=verb, what=f"{row.state.value}: the file on disk is recorded now")
    if verb is Verb.FORGET:
        return Change(row=row, verb=verb, what="entry removed")
    if verb is Verb.RECORD:
        by_hand = "recorded as applied by hand" if row.entry is None else "recorded as applied, all of it"
        return Change(row=row, verb=verb, what=by_hand)
    return _statement(row, verb, downs, target)


def _statement(row: Row, verb: Verb, downs: Mapping[int, SqlFile], target: str) -> Change:
    progress = row.entry.progress if row.entry else None
    if progress is None or not progress.attempted:
        raise UsageError(
            f"{target}: no statement of {row.name} is in doubt", hint="lockstep status shows what is in which state"
        )
    if verb is Verb.STATEMENT_UNDONE:
        done = row.entry.statements_done if row.entry else 0
        after = replace(progress, attempted="", was_there=False)
        return Change(
            row=row,
            verb=verb,
            what="the statement that was begun runs again",
            progress=after,
            statements_done=done or 0,
        )
    file = downs.get(row.version or 0) if progress.reverting else row.migration.up if row.migration else None
    if file is None or file.transactional:
        raise UsageError(f"{target}: the file of {row.name} is gone", hint="bring it back first (git log)")
    units = file.units()
    if progress.units >= len(units) or units[progress.units].digest != progress.attempted:
        raise UsageError(
            f"{target}: the statement of {file.name} that was begun is not there any more",
            hint=f"restore it (git log -- {file.name})",
        )
    count = progress.units + 1
    after = replace(progress, units=count, digest=done_digest(units, count), attempted="", was_there=False)
    what = f"line {units[progress.units].line} took effect; the next run goes on behind it"
    return Change(row=row, verb=verb, what=what, progress=after, statements_done=units[progress.units].done_after)

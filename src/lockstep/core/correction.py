"""Which correction of the ledger fits which state of a migration, and which can be taken back; pure.

The words are those of `lockstep repair`.
"""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One event of the audit log that may have changed rows of the ledger."""

    number: int  # its id
    event: str  # apply, revert, repair, …
    names: frozenset[str]  # migrations whose rows it changed
    versions: frozenset[int]  # likewise
    repeatables: bool = False  # a row of a repeatable is among them
    undoes: int | None = None  # the event that it took back

    @property
    def corrects(self) -> bool:
        """True for what can itself be taken back."""
        return self.event in {"repair", "baseline"}

    def changes(self, other: Touched) -> bool:
        """Whether this event, the later one, changed rows that the other one had changed."""
        if self.event == "baseline" or not (self.names or self.versions):
            return True  # it says what all of the ledger is
        if self.event == "revert" and other.repeatables:
            return True  # it asks every repeatable to run again
        return bool(self.names & other.names or self.versions & other.versions)


def in_the_way(event: Touched, later: Sequence[Touched]) -> tuple[Touched, ...]:
    """Return what keeps a correction from being taken back, newest first: its rows were changed by it since.

    `later`: all events after it. An event that was taken back does not count, nor does what took it back: so undoing in
    reverse order works all the way down.
    """
    gone: set[int] = set()
    found = []
    for one in sorted(later, key=lambda one: one.number, reverse=True):
        if one.number in gone:
            continue
        if one.undoes is not None and one.undoes > event.number:
            gone.add(one.undoes)
        elif one.changes(event):
            found.append(one)
    return tuple(found)


def changes(
    rows: Sequence[Row], asked: Sequence[tuple[str, Verb]], downs: Mapping[int, SqlFile], target: str
) -> tuple[Change, ...]:
    """Return the corrections that were asked for by name, and those that are safe without.

    `downs` are the down scripts that would run, by version. Raises UsageError for what does not fit; nothing is done then.
    """
    chosen: dict[str, Change] = {}
    for name, verb in asked:
        row = _find(rows, name, target)
        if row is None:
            raise UsageError(f"{target}: there is no {name}", hint="lockstep status shows what there is")
        if row.state not in FITS[verb]:
            raise UsageError(
                f"{target}: {row.name} is {row.state.value}: --{verb.value} is for what is "
                + _listed([state.value for state in State if state in FITS[verb]]),
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


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _find(rows: Sequence[Row], name: str, target: str) -> Row | None:
    """The row with this full name, else the one of that version or short name. Raises UsageError when it is two's."""
    whole = next((row for row in rows if row.name == name), None)
    if whole is not None:
        return whole
    number = int(name) if name.isdecimal() else None
    found = [row for row in rows if name == label(row.name) or (number is not None and number == row.version)]
    if len(found) > 1:
        raise UsageError(f"{target}: {name} may be {_listed([row.name for row in found])}", hint="give the whole name")
    return found[0] if found else None


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

"""A file outside of a transaction as units: what runs and is recorded as one, so that a broken run can be resumed.

A unit is a statement or a whole BEGIN … COMMIT block. One that can run in a transaction commits together with its
progress: exactly once. One that cannot is run at least once, and looked at again before it is repeated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lockstep.core.checksum import content_digest
from lockstep.core.statements import Script, Statement, problem_at
from lockstep.core.traits import Check, Recheck
from lockstep.errors import MigrationFileError

#: Statements that change rows alone (but for what a trigger of theirs may do).
_ROWS = frozenset({"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "truncate_stmt"})


class UnitKind(Enum):
    """How a unit runs."""

    TRANSACTION = "transaction"  # together with its progress: exactly once
    ALONE = "alone"  # by itself: at least once, checked before it is repeated
    BATCHES = "batches"  # a backfill's statement: transaction after transaction until it touches no row


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit of a script. Statements are counted from 0."""

    kind: UnitKind
    first: int  # its first statement, without BEGIN
    count: int  # how many statements, without BEGIN and COMMIT
    done_after: int  # how many of the script's statements are done when it is
    digest: str  # of all SQL since the unit before it
    line: int  # where it begins, from 1

    def statement(self, script: Script) -> Statement:
        """The first statement: the only one of a unit that is alone."""
        return script.statements[self.first]

    def may_make(self, script: Script) -> bool:
        """Whether it can change the schema: it does more than to change rows."""
        return any(one.kind not in _ROWS for one in script.statements[self.first : self.first + self.count])

    def recheck(self, script: Script) -> Recheck:
        """How one that is alone is looked at again."""
        return self.statement(script).traits.recheck or Recheck(check=Check.UNKNOWN)


def units_of(script: Script, *, backfill: bool = False) -> tuple[Unit, ...]:
    """Return the units of a script in order.

    Raises MigrationFileError with line and caret for what could not be resumed: transaction control that does not pair,
    a temporary table that a later unit would miss, an index built concurrently without a name, and for a backfill that
    is no single statement or would never end.
    """
    if backfill:
        return (_backfill(script),)
    made: list[Unit] = []
    taken = 0  # statements that belong to a unit already
    at = 0  # where the text of the next unit begins
    index = 0
    pending = False  # session-state statements since the last unit
    while index < len(script.statements):
        one = script.statements[index]
        _refuse_impossible(script, one)
        if one.traits.control:
            end = _block_end(script, index)
            first, count, index = index + 1, end - index - 1, end + 1
            kind = UnitKind.TRANSACTION
            if not count:
                taken, at = index, _end(script, index)
                continue
        elif one.traits.session:
            pending, index = True, index + 1
            continue
        else:
            _refuse_outside_of_a_block(script, one)
            first, count, index = index, 1, index + 1
            kind = UnitKind.ALONE if one.alone or one.traits.apart else UnitKind.TRANSACTION
        made.append(_unit(script, kind, first, count, index, at))
        taken, at, pending = index, _end(script, index), False
    if pending:
        # Nothing follows that would need them; they run all the same, so that a mistake in them shows.
        made.append(_unit(script, UnitKind.TRANSACTION, taken, len(script.statements) - taken, index, at))
    _refuse_lost_temporary(script, made)
    return tuple(made)


def done_digest(units: Sequence[Unit], count: int) -> str:
    """Return the chain over the first `count` units; equal chains, equal SQL."""
    chain = ""
    for unit in units[:count]:
        chain = next_digest(chain, unit)
    return chain


def next_digest(chain: str, unit: Unit) -> str:
    """Return the chain with one more unit."""
    return hashlib.sha256(f"{chain}:{unit.digest}".encode()).hexdigest()


def replayed(script: Script, units: Sequence[Unit], before: int) -> tuple[int, ...]:
    """Return the statements that made the session what it is when unit `before` begins: SET, SET ROLE, PREPARE, …

    Without those that a later one made void: a role may be gone by now, and a table that was prepared for.
    """
    limit = units[before].first if before < len(units) else len(script.statements)
    kept: dict[int, str] = {}  # index -> what it sets
    for index in range(limit):
        one = script.statements[index]
        if not one.traits.session:
            continue
        what = one.traits.sets
        if what == "*":
            void = {i for i, other in kept.items() if other not in _NOT_RESET and not other.startswith("PREPARE")}
        elif what == "session_authorization":
            void = {i for i, other in kept.items() if other in _NOT_RESET}
        else:
            void = {i for i, other in kept.items() if what and other == what}
        kept = {i: other for i, other in kept.items() if i not in void}
        if one.kind != "deallocate_stmt":
            kept[index] = what
    needed = {one.traits.needs for one in script.statements[limit:]}
    return tuple(i for i, what in kept.items() if not what.startswith("PREPARE") or what in needed)


_NOT_RESET = {"role", "session_authorization"}  # by RESET ALL


def _unit(script: Script, kind: UnitKind, first: int, count: int, done_after: int, at: int) -> Unit:
    text = script.text[at : _end(script, done_after)]
    return Unit(
        kind=kind,
        first=first,
        count=count,
        done_after=done_after,
        digest=content_digest(text) or "",
        line=script.statements[first].line,
    )


def _end(script: Script, done: int) -> int:
    return script.statements[done - 1].end if done else 0


def _backfill(script: Script) -> Unit:
    hint = "one INSERT, UPDATE, DELETE or MERGE that takes a limited number of rows, and finds none when all are done"
    if len(script.statements) != 1:
        where = script.statements[1].start if script.statements else len(script.text.rstrip())
        raise problem_at(script.file, script.text, where, "a backfill is exactly one statement", hint=hint)
    one = script.statements[0]
    if not one.traits.changes:
        raise problem_at(
            script.file, script.text, one.start, "a backfill has to say how many rows it touched", hint=hint
        )
    if _SKIP_LOCKED.search(script.text[one.start : one.end]):
        problem = "SKIP LOCKED would end the backfill while rows that others hold are left"
        raise problem_at(
            script.file,
            script.text,
            one.start,
            problem,
            hint="leave SKIP LOCKED away: a batch waits, or is tried again",
        )
    if one.traits.endless:
        problem = "this touches the same rows again and again: a backfill ends when it touches none"
        raise problem_at(
            script.file, script.text, one.start, problem, hint=f"give it a WHERE that finds less each time: {hint}"
        )
    return _unit(script, UnitKind.BATCHES, 0, 1, 1, 0)


_SKIP_LOCKED = re.compile(r"\bskip\s+locked\b", re.IGNORECASE)


def _block_end(script: Script, begin: int) -> int:
    """Return the index of the COMMIT that belongs to the BEGIN at `begin`."""
    opening = script.statements[begin]

    def problem(one: Statement, text: str, hint: str) -> MigrationFileError:
        return problem_at(script.file, script.text, one.start, text, hint=hint)

    name = opening.traits.control
    if name not in {"BEGIN", "START TRANSACTION"}:
        two_phase = name is not None and "PREPARE" in name
        raise problem(
            opening,
            f"{name} cannot be resumed after a failure" if two_phase else f"{name} without BEGIN",
            "do it by hand" if two_phase else "remove it, or put BEGIN before what belongs together",
        )
    if opening.traits.options:
        raise problem(
            opening,
            f"{name} with options cannot be taken over",
            "write SET TRANSACTION … as the first statement of the block",
        )
    for index in range(begin + 1, len(script.statements)):
        one = script.statements[index]
        inner = one.traits.control
        if inner is None:
            if one.alone:
                raise problem(one, f"{one.alone} cannot run inside BEGIN … COMMIT", "put it behind the COMMIT")
            continue
        if inner == "COMMIT" and not one.traits.options:
            return index
        if inner == "ROLLBACK":
            raise problem(one, "a block that ends in ROLLBACK does nothing", "end it with COMMIT, or remove it")
        raise problem(
            one, f"{inner} inside a block" + (" with AND CHAIN" if inner == "COMMIT" else ""), "end it with COMMIT;"
        )
    raise problem(opening, f"{name} without COMMIT: psql would have applied nothing", "end the block with COMMIT;")


def _refuse_impossible(script: Script, one: Statement) -> None:
    def problem(text: str, hint: str) -> MigrationFileError:
        return problem_at(script.file, script.text, one.start, text, hint=hint)

    if one.traits.forbidden:
        raise problem(
            f"{one.traits.forbidden} would let go of the run's own lock",
            "remove it: the session is reset after each file anyway",
        )
    recheck = one.traits.recheck
    if recheck is not None and recheck.check is Check.INDEX_BUILT and not recheck.name:
        raise problem(
            "an index that is built concurrently needs a name: after a failure it could not be found again",
            "CREATE INDEX CONCURRENTLY name ON …",
        )
    if not one.traits.session and _sets_unseen(script.text[one.start : one.end]):
        raise problem(
            "this set_config would be forgotten when the file is resumed behind it",
            "write SET, or SELECT set_config('name', 'value', false) alone; or true as its third argument",
        )


_SET_CONFIG = re.compile(r"\bset_config\s*\(", re.IGNORECASE)
_LOCAL = re.compile(r"\bset_config\s*\([^()]*,\s*true\s*\)", re.IGNORECASE)
_DEFINES = re.compile(r"\s*create\s", re.IGNORECASE)


def _sets_unseen(text: str) -> bool:
    """Whether a statement calls set_config for the session in a way that cannot be told from outside.

    What a function's definition says happens when it is called, not here.
    """
    if _SET_CONFIG.search(text) is None or _DEFINES.match(text):
        return False
    return len(_SET_CONFIG.findall(text)) > len(_LOCAL.findall(text))


def _refuse_outside_of_a_block(script: Script, one: Statement) -> None:
    if one.traits.block_only:
        raise problem_at(
            script.file,
            script.text,
            one.start,
            f"{one.traits.block_only} has no effect outside of BEGIN … COMMIT",
            hint="write SET (it ends with the file), or put it into the block that needs it"
            if one.traits.block_only == "SET LOCAL"
            else "put it into one BEGIN … COMMIT block with what needs it",
        )


def _refuse_lost_temporary(script: Script, units: Sequence[Unit]) -> None:
    for number, unit in enumerate(units):
        for one in script.statements[unit.first : unit.first + unit.count]:
            name = one.traits.temporary
            if name is None:
                continue
            word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])", re.IGNORECASE)
            later = units[number + 1 :]
            if unit.count > 1 and not any(word.search(_text(script, other)) for other in later):
                continue
            raise problem_at(
                script.file,
                script.text,
                one.start,
                f"the temporary {name} would be missing when the file is resumed behind it",
                hint="put it and all that uses it into one BEGIN … COMMIT block, or use an ordinary table",
            )


def _text(script: Script, unit: Unit) -> str:
    last = script.statements[unit.first + unit.count - 1]
    return script.text[script.statements[unit.first].start : last.end]

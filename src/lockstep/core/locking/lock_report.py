"""The locks of files as text: the tables of `validate --locks`, and the line that `plan` shows under a step."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.core.counting import counted
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.locks import RelationLock, StatementLocks
from lockstep.core.table import render_table


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLocks:
    """The locks of one file's statements, in order."""

    file: str  # file name in the migrations folder
    statements: tuple[StatementLocks, ...]

    @property
    def strongest(self) -> tuple[RelationLock, ...]:
        """The strongest lock on each relation that was there before, strongest first; those that nobody feels, too."""
        found: dict[str, RelationLock] = {}
        for lock in (lock for one in self.statements for lock in one.locks if not lock.new):
            if lock.relation not in found or found[lock.relation].mode.rank < lock.mode.rank:
                found[lock.relation] = lock
        return tuple(sorted(found.values(), key=lambda one: -one.mode.rank))

    @property
    def unknown(self) -> tuple[StatementLocks, ...]:
        """The statements of which not all is known."""
        return tuple(one for one in self.statements if one.unknown)


_SHOWN = 3  # relations in a line
_LINES = 5  # statements of a step


def step_lines(locks: FileLocks) -> list[str]:
    """Return the strong locks of a file and what they block: one line, or one per statement where several take some.

    Nothing when nobody would wait for it.
    """
    felt = [one for one in locks.statements if any(lock.felt for lock in one.locks)]
    if len(felt) < 2:
        line = step_line(locks)
        return [line] if line else []
    lines = [f"line {one.line}: {_strong(one.locks)}" for one in felt[:_LINES]]
    if len(felt) > _LINES:
        lines.append(f"and {len(felt) - _LINES} statements more: lockstep validate --locks")
    unknown = _not_known(locks)
    return [*lines, unknown] if unknown else lines


def step_line(locks: FileLocks) -> str | None:
    """Return one line: the strong locks of a file and what they block; None when nobody would wait for it."""
    parts = [part for part in (_strong(locks.strongest), _not_known(locks)) if part]
    return "; ".join(parts) if parts else None


def _strong(locks: tuple[RelationLock, ...]) -> str:
    felt = [one for one in locks if one.felt]
    parts = []
    for mode in reversed(Mode):
        names = [one.relation for one in felt[:_SHOWN] if one.mode is mode]
        if names:
            parts.append(f"{mode.value} on {', '.join(names)}: blocks {mode.blocks}")
    if len(felt) > _SHOWN:
        parts.append(f"and {len(felt) - _SHOWN} more")
    return "; ".join(parts)


def _not_known(locks: FileLocks) -> str:
    if not locks.unknown:
        return ""
    lines = ", ".join(str(one.line) for one in locks.unknown[:_SHOWN])
    more = f" and {len(locks.unknown) - _SHOWN} more" if len(locks.unknown) > _SHOWN else ""
    return f"not known of line {lines}{more}"


def lock_table(locks: FileLocks) -> str:
    """Return a file's name and its table; what it makes itself is left out, since nobody waits for that."""
    rows: list[list[str]] = []
    quiet = 0
    for one in locks.statements:
        shown = [lock for lock in one.locks if not lock.new]
        if not shown and not one.unknown:
            quiet += 1
        first = [str(one.line), one.kind]
        for lock in shown:
            rows.append([*first, lock.mode.value, lock.relation, lock.mode.blocks])
            first = ["", ""]
        if one.unknown:
            rows.append([*first, "not known", one.unknown, "not known"])
    text = [locks.file]
    if rows:
        table = render_table(["line", "statement", "lock", "on", "blocks"], rows)
        text += [f"  {line}" for line in table.splitlines()]
    if quiet:
        count = counted(quiet, "statement locks", "statements lock")
        text.append(f"  {count} nothing that others use")
    return "\n".join(text)

"""What to do about a statement that cannot run in a transaction, given what the catalog shows; pure.

Such a statement runs at least once. Before it runs, and again after a run that broke off, it is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from lockstep.core.traits import Check, Recheck


class Course(Enum):
    """What to do next."""

    RUN = "run"  # as it stands
    HEAL = "heal"  # drop what an earlier try left, then run it
    FINALISE = "finalise"  # a detach that got half-way: finish it
    DONE = "done"  # it took effect already
    ASK = "ask"  # nobody can tell: a person has to


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the catalog shows of the object that a statement is about."""

    there: bool = False  # it exists; for a partition: it is attached
    whole: bool = True  # an index: valid; a partition: not half detached
    fits: bool = True  # it is what the statement would make: an index on that very table
    qualified: str = ""  # its name, quoted and with its schema
    leftovers: tuple[str, ...] = ()  # invalid indexes of broken tries, quoted and qualified: to be dropped
    builders: tuple[int, ...] = ()  # pids of sessions that may be building it right now
    definition: str | None = None  # of an index that is there, as the server prints it


def course(recheck: Recheck, seen: Seen, *, attempted: bool, was_there: bool) -> Course:
    """Return what to do. `attempted`: an earlier try of this very statement began; `was_there`: before that."""
    ours = attempted and not was_there
    match recheck.check:
        case Check.INDEX_BUILT:
            if seen.there and seen.fits and not seen.whole:
                return Course.HEAL
            return Course.DONE if ours and seen.there and seen.fits else Course.RUN
        case Check.INDEX_GONE | Check.GONE:
            return Course.DONE if attempted and not seen.there else Course.RUN
        case Check.REINDEXED:
            return Course.HEAL if attempted and seen.leftovers else Course.RUN
        case Check.DETACHED:
            if seen.there and not seen.whole:
                return Course.FINALISE
            return Course.DONE if attempted and not seen.there else Course.RUN
        case Check.THERE:
            return Course.DONE if ours and seen.there else Course.RUN
        case Check.AGAIN:
            return Course.RUN
        case Check.UNKNOWN:
            return Course.ASK if attempted else Course.RUN


def what_is_left(recheck: Recheck, seen: Seen) -> str | None:
    """Return what a failed try left behind, in words; None: nothing."""
    match recheck.check:
        case Check.INDEX_BUILT | Check.REINDEXED if seen.leftovers:
            names = ", ".join(seen.leftovers)
            return f"the invalid index {names} is there and could not be dropped: the next run tries again"
        case Check.INDEX_GONE if seen.there and not seen.whole:
            return f"the index {seen.qualified} is still there and invalid: the next run drops it"
        case Check.DETACHED if seen.there and not seen.whole:
            return (
                f"{recheck.name} is half detached, and its rows do not show through {recheck.table}: "
                "the next run finishes it"
            )
        case _:
            return None


def stays_in_doubt(recheck: Recheck) -> bool:
    """Whether an error leaves it open what the statement did. Of all others nothing is left but what `course` heals."""
    return recheck.check is Check.UNKNOWN


def touched(recheck: Recheck) -> tuple[str, str, str] | None:
    """Return what the statement makes or drops: made or gone, schema ("" where the file names none), name.

    Of indexes alone.
    """
    match recheck.check:
        case Check.INDEX_BUILT:
            *schema, _ = _parts(recheck.table)
            return "made", "".join(schema[-1:]), _parts(recheck.name)[-1]
        case Check.INDEX_GONE:
            *schema, name = _parts(recheck.name)
            return "gone", "".join(schema[-1:]), name
        case _:
            return None


def _parts(quoted: str) -> list[str]:
    """The names in a qualified one that is quoted throughout (core.traits.quoted)."""
    return [one.replace('""', '"') for one in re.findall(r'"((?:[^"]|"")*)"', quoted)]

"""Which of a file's windows to name: the table that people know, rather than an index that is locked with it."""

from __future__ import annotations

from collections.abc import Mapping

from lockstep.core.rehearsal.trace import FileTrace, Window

PARTS = frozenset({"index", "TOAST table", "sequence", "partition"})  # locked together with what people know
_SAME = 0.95  # locked at nearly the same moment


def kinds_of(file: FileTrace) -> dict[str, str]:
    """Return what each locked relation is, in words."""
    return {lock.relation: lock.kind for one in file.statements for lock in one.locks}


def preferred(window: Window, kinds: Mapping[str, str]) -> tuple[bool, int, float]:
    """A key that sorts first what to name: tables before their parts, stronger before weaker, longer before shorter."""
    return kinds.get(window.relation) in PARTS, -window.mode.rank, -window.ms


def worst_window(file: FileTrace) -> Window | None:
    """Return the window that blocks others longest; of those about as long, the one to name. None: nobody waits."""
    longest = max((one.ms for one in file.windows), default=0.0)
    kinds = kinds_of(file)
    about = [one for one in file.windows if one.ms >= longest * _SAME]
    return min(about, key=lambda one: preferred(one, kinds), default=None)

"""Which backups stay: a pure rule over what is known of them. It deletes nothing and knows no clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class Because(Enum):
    """Why a backup stays."""

    LAST = "one of the last"  # of those that are not known to be damaged
    YOUNG = "young"
    VERIFIED = "the newest verified"  # at its strength: a weaker proof of a newer one does not replace a stronger
    REFERENCED = "a run refers to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the rule looks at, of one backup."""

    id: str  # unique within the environment
    taken_at: datetime
    run_id: str
    strength: int = 0  # of its verification; 0: none. Higher proves more
    failed: bool = False  # known to be damaged


def retain(
    backups: Sequence[Kept],
    *,
    last: int,
    days: int,
    now: datetime,
    referenced: Collection[str] = (),
    runs: Collection[str] = (),
) -> Mapping[str, frozenset[Because]]:
    """Return why each backup stays, by id; those that have no reason may go.

    Stay: the newest `last` ones that are not known to be damaged, so that damaged ones push no good one out, and the
    damaged ones among them, since a verification may have been wrong; all that
    are younger than `days` by `now`; the newest verified one of each strength; those whose id is in `referenced` or
    whose run is in `runs`.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.taken_at, backup.id), reverse=True)
    good = [backup for backup in newest_first if not backup.failed]
    limit = now - timedelta(days=days)
    newest = _last(newest_first, last)
    verified = {
        next(backup.id for backup in good if backup.strength >= strength)
        for strength in {backup.strength for backup in good if backup.strength}
    }

    def reasons(backup: Kept) -> frozenset[Because]:
        held = {
            Because.LAST: backup.id in newest,
            Because.YOUNG: backup.taken_at > limit,
            Because.VERIFIED: backup.id in verified,
            Because.REFERENCED: backup.id in referenced or backup.run_id in runs,
        }
        return frozenset(reason for reason, holds in held.items() if holds)

    return {backup.id: reasons(backup) for backup in backups}


def _last(newest_first: Sequence[Kept], last: int) -> set[str]:
    """From the newest on, until `last` good ones are among them."""
    found: set[str] = set()
    good = 0
    for backup in newest_first:
        if good >= last:
            break
        good += not backup.failed
        found.add(backup.id)
    return found
